CREATE TABLE public.axon_commits (
    connection text NOT NULL,
    unit text NOT NULL,
    made_at timestamp with time zone NOT NULL,
    role name DEFAULT CURRENT_USER NOT NULL,
    fenced boolean DEFAULT false NOT NULL,
    schema_version integer NOT NULL
);
CREATE TABLE public.axon_properties (
    name text NOT NULL,
    value text NOT NULL
);
CREATE TABLE public.axonml_checkpoints (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    document text NOT NULL,
    notebook_id text COLLATE pg_catalog."C",
    created_at text COLLATE pg_catalog."C",
    run_id text COLLATE pg_catalog."C",
    epoch bigint,
    step bigint,
    version_id text COLLATE pg_catalog."C",
    state_size bigint
);
CREATE SEQUENCE public.axonml_checkpoints_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.axonml_checkpoints_seq_seq OWNED BY public.axonml_checkpoints.seq;
CREATE TABLE public.axonml_contents (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    document text NOT NULL,
    notebook_id text COLLATE pg_catalog."C",
    ordinal bigint
);
CREATE SEQUENCE public.axonml_contents_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.axonml_contents_seq_seq OWNED BY public.axonml_contents.seq;
CREATE TABLE public.axonml_metrics (
    notebook_id text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    value double precision NOT NULL,
    created_at text NOT NULL COLLATE pg_catalog."C",
    checkpoint_id text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.axonml_notebooks (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    document text NOT NULL,
    user_id text COLLATE pg_catalog."C",
    name text COLLATE pg_catalog."C",
    status text COLLATE pg_catalog."C",
    created_at text COLLATE pg_catalog."C",
    updated_at text COLLATE pg_catalog."C",
    origin text COLLATE pg_catalog."C",
    path text COLLATE pg_catalog."C",
    embedded_id text COLLATE pg_catalog."C"
);
CREATE SEQUENCE public.axonml_notebooks_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.axonml_notebooks_seq_seq OWNED BY public.axonml_notebooks.seq;
CREATE TABLE public.axonml_provenance (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    document text NOT NULL,
    notebook_id text COLLATE pg_catalog."C"
);
CREATE SEQUENCE public.axonml_provenance_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.axonml_provenance_seq_seq OWNED BY public.axonml_provenance.seq;
CREATE TABLE public.axonml_run_metrics (
    name text NOT NULL COLLATE pg_catalog."C",
    run bigint NOT NULL,
    notebook_id text NOT NULL COLLATE pg_catalog."C",
    last double precision,
    min double precision,
    max double precision,
    last_step bigint,
    min_step bigint,
    max_step bigint
);
CREATE TABLE public.axonml_run_values (
    name text NOT NULL COLLATE pg_catalog."C",
    run bigint NOT NULL,
    item integer NOT NULL,
    notebook_id text NOT NULL COLLATE pg_catalog."C",
    number double precision,
    text text COLLATE pg_catalog."C"
);
CREATE TABLE public.axonml_runs (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    document text NOT NULL,
    notebook_id text COLLATE pg_catalog."C",
    started_at text COLLATE pg_catalog."C",
    status text COLLATE pg_catalog."C",
    ended_at text COLLATE pg_catalog."C",
    lease_until text COLLATE pg_catalog."C",
    name text COLLATE pg_catalog."C",
    number bigint,
    step_count bigint
);
CREATE SEQUENCE public.axonml_runs_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.axonml_runs_seq_seq OWNED BY public.axonml_runs.seq;
CREATE TABLE public.axonml_series (
    notebook_id text NOT NULL COLLATE pg_catalog."C",
    run bigint NOT NULL,
    name text NOT NULL COLLATE pg_catalog."C",
    number integer NOT NULL,
    count integer NOT NULL,
    content bytea NOT NULL
);
CREATE TABLE public.axonml_spools (
    notebook_id text NOT NULL COLLATE pg_catalog."C",
    run bigint NOT NULL,
    spool text NOT NULL COLLATE pg_catalog."C",
    "offset" bigint NOT NULL
);
CREATE TABLE public.axonml_versions (
    seq bigint NOT NULL,
    id text NOT NULL COLLATE pg_catalog."C",
    document text NOT NULL,
    notebook_id text COLLATE pg_catalog."C",
    ordinal bigint
);
CREATE SEQUENCE public.axonml_versions_seq_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.axonml_versions_seq_seq OWNED BY public.axonml_versions.seq;
ALTER TABLE ONLY public.axonml_checkpoints ALTER COLUMN seq SET DEFAULT nextval('public.axonml_checkpoints_seq_seq'::regclass);
ALTER TABLE ONLY public.axonml_contents ALTER COLUMN seq SET DEFAULT nextval('public.axonml_contents_seq_seq'::regclass);
ALTER TABLE ONLY public.axonml_notebooks ALTER COLUMN seq SET DEFAULT nextval('public.axonml_notebooks_seq_seq'::regclass);
ALTER TABLE ONLY public.axonml_provenance ALTER COLUMN seq SET DEFAULT nextval('public.axonml_provenance_seq_seq'::regclass);
ALTER TABLE ONLY public.axonml_runs ALTER COLUMN seq SET DEFAULT nextval('public.axonml_runs_seq_seq'::regclass);
ALTER TABLE ONLY public.axonml_versions ALTER COLUMN seq SET DEFAULT nextval('public.axonml_versions_seq_seq'::regclass);
INSERT INTO public.axon_commits VALUES ('e4baa45c-45ea-4503-83f0-22d14ec69cf3', '87f372c8-3886-4c18-89df-fd1231b9b89a', '2026-11-29 23:09:05.740502+00', 'postgres', false, 3);
INSERT INTO public.axon_properties VALUES ('store_id', 'a64e024d-bd20-40c3-a2ee-230b9943078d');
INSERT INTO public.axon_properties VALUES ('schema_version', '3');
INSERT INTO public.axonml_checkpoints VALUES (1, 'c1', '{"metrics":{"loss":0.5,"val":{"loss":0.75}},"step":0,"id":"c1","epoch":0,"model_state_path":"/states/m","created_at":"2026-11-29T23:09:05.688316Z","run_id":"run-1","version_id":"f13ed1fa-cd00-4088-a522-eee84afc3c8d","tags":["warm-up"],"pinned":false,"notebook_id":"bound"}', 'bound', '2026-11-29T23:09:05.688316Z', 'run-1', 0, 0, 'f13ed1fa-cd00-4088-a522-eee84afc3c8d', 0);
INSERT INTO public.axonml_checkpoints VALUES (2, 'c2', '{"metrics":{"loss":"NaN","val":{"loss":0.25},"big":1180591620717411303424},"step":0,"id":"c2","epoch":1,"model_state_path":"","created_at":"2026-11-29T23:09:05.702407Z","run_id":"run-1","version_id":"f13ed1fa-cd00-4088-a522-eee84afc3c8d","provenance_id":"p1","tags":["warm-up"],"pinned":true,"nonfinite":["loss"],"notebook_id":"bound"}', 'bound', '2026-11-29T23:09:05.702407Z', 'run-1', 1, 0, 'f13ed1fa-cd00-4088-a522-eee84afc3c8d', 0);
INSERT INTO public.axonml_contents VALUES (1, 'bound/e27ec21aab562a1fced0625b4b2b4920f0e13534', '{"ordinal":0,"content":{"cell_type":"markdown","source":"# Gr\u00fc\u00dfe \ud800","metadata":{}},"notebook_id":"bound"}', 'bound', 0);
INSERT INTO public.axonml_contents VALUES (2, 'bound/464eaf89cbe0773c21dd2632afe0a2c7ad7613aa', '{"ordinal":0,"content":{"nbformat":{"metadata":{"kernelspec":{"name":"python3"}},"nbformat":4,"nbformat_minor":5}},"notebook_id":"bound"}', 'bound', 0);
INSERT INTO public.axonml_contents VALUES (3, 'bound/386dfd6d29a16d0419de504839e5d40d74c30017', '{"ordinal":0,"content":{"cell_type":"code","source":"import torch","metadata":{}},"notebook_id":"bound"}', 'bound', 0);
INSERT INTO public.axonml_contents VALUES (4, 'bound/f66b189b5fab1b896e7c75960ee2d2a7bdbb85cb', '{"ordinal":1,"content":{"cell_type":"code","source":"fit()","metadata":{}},"notebook_id":"bound"}', 'bound', 1);
INSERT INTO public.axonml_contents VALUES (5, 'bound/178328f259902f99135b2991a9850809efa47547', '{"ordinal":1,"content":{"outputs":[{"output_type":"stream","text":"epoch 1\n","name":"stdout"}]},"notebook_id":"bound"}', 'bound', 1);
INSERT INTO public.axonml_contents VALUES (6, 'unbound/ec0a1196c563395ea3e17040b69d4ebc0696d4fb', '{"ordinal":0,"content":{"cell_type":"code","source":"1 + 1","metadata":{}},"notebook_id":"unbound"}', 'unbound', 0);
INSERT INTO public.axonml_contents VALUES (7, 'unbound/712c95a250e0ca8bcf4b7a511e171391350e3bd4', '{"ordinal":1,"content":{"cell_type":"code","source":"2 + 2","metadata":{}},"notebook_id":"unbound"}', 'unbound', 1);
INSERT INTO public.axonml_metrics VALUES ('bound', 'loss', 0.5, '2026-11-29T23:09:05.688316Z', 'c1');
INSERT INTO public.axonml_metrics VALUES ('bound', 'val.loss', 0.75, '2026-11-29T23:09:05.688316Z', 'c1');
INSERT INTO public.axonml_metrics VALUES ('bound', 'val.loss', 0.25, '2026-11-29T23:09:05.702407Z', 'c2');
INSERT INTO public.axonml_metrics VALUES ('bound', 'big', 1.1805916207174113e+21, '2026-11-29T23:09:05.702407Z', 'c2');
INSERT INTO public.axonml_notebooks VALUES (1, 'bound', '{"file":{},"file_tags":["vision"],"embedded_id":"bound","cell_count":3,"cell_statuses":{},"name":"train","metadata":{"kernel":"python3","language":"python","tags":["vision"],"extra":{}},"status":"running","created_at":"2026-11-29T23:09:05.644267Z","updated_at":"2026-11-29T23:09:05.734706Z","path":"/home/ada/train.ipynb","origin":"0123456789abcdef","synced_at":"2026-11-29T23:09:05.731364Z","version_id":"faa794e6-2602-4966-aec9-2082fceee512","id":"bound","user_id":"ada"}', 'ada', 'train', 'running', '2026-11-29T23:09:05.644267Z', '2026-11-29T23:09:05.734706Z', '0123456789abcdef', '/home/ada/train.ipynb', 'bound');
INSERT INTO public.axonml_notebooks VALUES (2, 'unbound', '{"cell_count":1,"cell_statuses":{},"name":"resnet","description":"by hand","metadata":{"kernel":"axonml","language":"rust","framework":"axonml","tags":["mine"],"extra":{}},"status":"draft","created_at":"2026-11-29T23:09:05.735508Z","updated_at":"2026-11-29T23:09:05.744871Z","version_id":"bd90edec-7ae3-4177-92c5-1c0e7bb09d3e","id":"unbound","user_id":"ada"}', 'ada', 'resnet', 'draft', '2026-11-29T23:09:05.735508Z', '2026-11-29T23:09:05.744871Z', NULL, NULL, NULL);
INSERT INTO public.axonml_provenance VALUES (1, 'p1', '{"executed":["import torch","fit()"],"notebook_id":"bound"}', 'bound');
INSERT INTO public.axonml_run_metrics VALUES ('loss', 1, 'bound', 0.1, 0.1, 1, 9, 9, 0);
INSERT INTO public.axonml_run_metrics VALUES ('val.loss', 1, 'bound', 0.25, 0.25, 0.75, 0, 0, 0);
INSERT INTO public.axonml_run_metrics VALUES ('big', 1, 'bound', 1.1805916207174113e+21, 1.1805916207174113e+21, 1.1805916207174113e+21, 0, 0, 0);
INSERT INTO public.axonml_run_values VALUES ('id', 1, -1, 'bound', NULL, 'run-1');
INSERT INTO public.axonml_run_values VALUES ('config.layers', 1, 0, 'bound', 64, NULL);
INSERT INTO public.axonml_run_values VALUES ('config.lr', 1, -1, 'bound', 0.1, NULL);
INSERT INTO public.axonml_run_values VALUES ('tags', 1, 0, 'bound', NULL, 'baseline');
INSERT INTO public.axonml_run_values VALUES ('tags', 1, -2, 'bound', NULL, '["baseline"]');
INSERT INTO public.axonml_run_values VALUES ('config.layers', 1, -2, 'bound', NULL, '[64.0,64.0]');
INSERT INTO public.axonml_run_values VALUES ('config.layers', 1, 1, 'bound', 64, NULL);
INSERT INTO public.axonml_run_values VALUES ('config.model.name', 1, -1, 'bound', NULL, 'wide');
INSERT INTO public.axonml_run_values VALUES ('id', 2, -1, 'bound', NULL, 'run-2');
INSERT INTO public.axonml_run_values VALUES ('tags', 2, -2, 'bound', NULL, '[]');
INSERT INTO public.axonml_runs VALUES (1, 'bound/4e65d3fbe8ad6535681b021b30785b12b6c0e3f8878859a4148b3f58b8835db0', '{"id":"run-1","status":"completed","started_at":"2026-11-29T23:09:05.661406Z","ended_at":"2026-11-29T23:09:05.715304Z","name":"first","number":1,"config":{"lr":0.1,"layers":[64,64],"model":{"name":"wide"}},"tags":["baseline"],"step_count":10,"last_step":9,"notebook_id":"bound"}', 'bound', '2026-11-29T23:09:05.661406Z', 'completed', '2026-11-29T23:09:05.715304Z', NULL, 'first', 1, 10);
INSERT INTO public.axonml_runs VALUES (2, 'bound/b9d17232a4c83d9928ee0d4e6fab81d3802cd3bf898149558e1abf8b24e1ba49', '{"id":"run-2","parent_checkpoint_id":"c2","status":"running","started_at":"2026-11-29T23:09:05.724538Z","number":2,"tags":[],"notebook_id":"bound"}', 'bound', '2026-11-29T23:09:05.724538Z', 'running', NULL, NULL, NULL, 2, NULL);
INSERT INTO public.axonml_series VALUES ('bound', 1, 'loss', 0, 10, '\x010a00000014000000360000001e00000069310000000000000000000101010101010101010178016360086598153a89416616039035335485e1f84c08cb93a110ca02ca4259a8b21f1e5cbd70f2e8a1037b76dac30100928b1a41693420a1070000000000017801737080022718e087010618000084e4051a');
INSERT INTO public.axonml_spools VALUES ('bound', 1, 's', 100);
INSERT INTO public.axonml_versions VALUES (1, 'f13ed1fa-cd00-4088-a522-eee84afc3c8d', '{"id":"f13ed1fa-cd00-4088-a522-eee84afc3c8d","created_at":"2026-11-29T23:09:05.655985Z","ordinal":0,"cells":[["title","e27ec21aab562a1fced0625b4b2b4920f0e13534",null,null],["import","386dfd6d29a16d0419de504839e5d40d74c30017",null,1]],"metadata":{"kernel":"python3","language":"python","tags":["vision"],"extra":{"nbformat":"464eaf89cbe0773c21dd2632afe0a2c7ad7613aa"}},"failed":[],"notebook_id":"bound"}', 'bound', 0);
INSERT INTO public.axonml_versions VALUES (2, 'faa794e6-2602-4966-aec9-2082fceee512', '{"id":"faa794e6-2602-4966-aec9-2082fceee512","created_at":"2026-11-29T23:09:05.734386Z","ordinal":1,"cells":[["title","e27ec21aab562a1fced0625b4b2b4920f0e13534",null,null],["import","386dfd6d29a16d0419de504839e5d40d74c30017",null,1],["train","f66b189b5fab1b896e7c75960ee2d2a7bdbb85cb","178328f259902f99135b2991a9850809efa47547",2]],"metadata":{"kernel":"python3","language":"python","tags":["vision"],"extra":{"nbformat":"464eaf89cbe0773c21dd2632afe0a2c7ad7613aa"}},"failed":[],"notebook_id":"bound"}', 'bound', 1);
INSERT INTO public.axonml_versions VALUES (3, '5f0a5a10-143e-42bc-b499-0f863f1af336', '{"id":"5f0a5a10-143e-42bc-b499-0f863f1af336","created_at":"2026-11-29T23:09:05.739767Z","ordinal":0,"cells":[["a","ec0a1196c563395ea3e17040b69d4ebc0696d4fb",null,null]],"metadata":{"kernel":"axonml","language":"rust","framework":"axonml","tags":[],"extra":{}},"failed":[],"notebook_id":"unbound"}', 'unbound', 0);
INSERT INTO public.axonml_versions VALUES (4, 'bd90edec-7ae3-4177-92c5-1c0e7bb09d3e', '{"id":"bd90edec-7ae3-4177-92c5-1c0e7bb09d3e","created_at":"2026-11-29T23:09:05.744615Z","ordinal":1,"cells":[["a","712c95a250e0ca8bcf4b7a511e171391350e3bd4",null,null]],"metadata":{"kernel":"axonml","language":"rust","framework":"axonml","tags":[],"extra":{}},"failed":[],"notebook_id":"unbound"}', 'unbound', 1);
SELECT pg_catalog.setval('public.axonml_checkpoints_seq_seq', 2, true);
SELECT pg_catalog.setval('public.axonml_contents_seq_seq', 7, true);
SELECT pg_catalog.setval('public.axonml_notebooks_seq_seq', 2, true);
SELECT pg_catalog.setval('public.axonml_provenance_seq_seq', 1, true);
SELECT pg_catalog.setval('public.axonml_runs_seq_seq', 2, true);
SELECT pg_catalog.setval('public.axonml_versions_seq_seq', 4, true);
ALTER TABLE ONLY public.axon_commits
    ADD CONSTRAINT axon_commits_pkey PRIMARY KEY (connection);
ALTER TABLE ONLY public.axon_properties
    ADD CONSTRAINT axon_properties_pkey PRIMARY KEY (name);
ALTER TABLE ONLY public.axonml_checkpoints
    ADD CONSTRAINT axonml_checkpoints_id_key UNIQUE (id);
ALTER TABLE ONLY public.axonml_checkpoints
    ADD CONSTRAINT axonml_checkpoints_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.axonml_contents
    ADD CONSTRAINT axonml_contents_id_key UNIQUE (id);
ALTER TABLE ONLY public.axonml_contents
    ADD CONSTRAINT axonml_contents_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.axonml_metrics
    ADD CONSTRAINT axonml_metrics_pkey PRIMARY KEY (notebook_id, name, value, created_at, checkpoint_id);
ALTER TABLE ONLY public.axonml_notebooks
    ADD CONSTRAINT axonml_notebooks_id_key UNIQUE (id);
ALTER TABLE ONLY public.axonml_notebooks
    ADD CONSTRAINT axonml_notebooks_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.axonml_provenance
    ADD CONSTRAINT axonml_provenance_id_key UNIQUE (id);
ALTER TABLE ONLY public.axonml_provenance
    ADD CONSTRAINT axonml_provenance_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.axonml_run_metrics
    ADD CONSTRAINT axonml_run_metrics_pkey PRIMARY KEY (name, run, notebook_id);
ALTER TABLE ONLY public.axonml_run_values
    ADD CONSTRAINT axonml_run_values_pkey PRIMARY KEY (name, run, item, notebook_id);
ALTER TABLE ONLY public.axonml_runs
    ADD CONSTRAINT axonml_runs_id_key UNIQUE (id);
ALTER TABLE ONLY public.axonml_runs
    ADD CONSTRAINT axonml_runs_pkey PRIMARY KEY (seq);
ALTER TABLE ONLY public.axonml_series
    ADD CONSTRAINT axonml_series_pkey PRIMARY KEY (notebook_id, run, name, number);
ALTER TABLE ONLY public.axonml_spools
    ADD CONSTRAINT axonml_spools_pkey PRIMARY KEY (notebook_id, run, spool);
ALTER TABLE ONLY public.axonml_versions
    ADD CONSTRAINT axonml_versions_id_key UNIQUE (id);
ALTER TABLE ONLY public.axonml_versions
    ADD CONSTRAINT axonml_versions_pkey PRIMARY KEY (seq);
CREATE INDEX ix_axonml_checkpoints_notebook_id_created_at_id ON public.axonml_checkpoints USING btree (notebook_id NULLS FIRST, created_at NULLS FIRST, id NULLS FIRST);
CREATE INDEX ix_axonml_checkpoints_notebook_id_run_id_state_size ON public.axonml_checkpoints USING btree (notebook_id NULLS FIRST, run_id NULLS FIRST, state_size NULLS FIRST);
CREATE INDEX ix_axonml_checkpoints_version_id ON public.axonml_checkpoints USING btree (version_id NULLS FIRST);
CREATE INDEX ix_axonml_contents_notebook_id_ordinal ON public.axonml_contents USING btree (notebook_id NULLS FIRST, ordinal NULLS FIRST);
CREATE INDEX ix_axonml_notebooks_embedded_id ON public.axonml_notebooks USING btree (embedded_id NULLS FIRST);
CREATE INDEX ix_axonml_notebooks_updated_at_id ON public.axonml_notebooks USING btree (updated_at NULLS FIRST, id NULLS FIRST);
CREATE INDEX ix_axonml_notebooks_user_id_updated_at_id ON public.axonml_notebooks USING btree (user_id NULLS FIRST, updated_at NULLS FIRST, id NULLS FIRST);
CREATE INDEX ix_axonml_provenance_notebook_id ON public.axonml_provenance USING btree (notebook_id NULLS FIRST);
CREATE INDEX ix_axonml_run_metrics_notebook_id_name ON public.axonml_run_metrics USING btree (notebook_id, name);
CREATE INDEX ix_axonml_run_metrics_run ON public.axonml_run_metrics USING btree (run);
CREATE INDEX ix_axonml_run_values_notebook_id_name ON public.axonml_run_values USING btree (notebook_id, name);
CREATE INDEX ix_axonml_run_values_run ON public.axonml_run_values USING btree (run);
CREATE INDEX ix_axonml_runs_notebook_id_started_at_id ON public.axonml_runs USING btree (notebook_id NULLS FIRST, started_at NULLS FIRST, id NULLS FIRST);
CREATE INDEX ix_axonml_runs_started_at_id ON public.axonml_runs USING btree (started_at NULLS FIRST, id NULLS FIRST);
CREATE INDEX px_axonml_notebooks_path ON public.axonml_notebooks USING spgist (path);
CREATE UNIQUE INDEX uq_axonml_checkpoints_notebook_id_run_id_epoch_step ON public.axonml_checkpoints USING btree (notebook_id NULLS FIRST, run_id NULLS FIRST, epoch NULLS FIRST, step NULLS FIRST);
CREATE UNIQUE INDEX uq_axonml_notebooks_origin_path ON public.axonml_notebooks USING btree (origin NULLS FIRST, sha256(decode(replace(path, '\'::text, '\\'::text), 'escape'::text)));
CREATE UNIQUE INDEX uq_axonml_versions_notebook_id_ordinal ON public.axonml_versions USING btree (notebook_id NULLS FIRST, ordinal NULLS FIRST);
