BEGIN TRANSACTION;
CREATE TABLE axon_properties (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "axon_properties" VALUES('store_id','96cbfdb2-137e-41b1-b226-1d538e5312fc');
INSERT INTO "axon_properties" VALUES('schema_version','1');
CREATE TABLE axonml_checkpoints (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	notebook_id TEXT, 
	created_at TEXT, 
	run_id TEXT, 
	epoch BIGINT, 
	step BIGINT, 
	version_id TEXT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_checkpoints" VALUES(1,'c1','{"metrics":{"loss":0.5,"val":{"loss":0.75}},"id":"c1","notebook_id":"bound","epoch":0,"step":0,"model_state_path":"/states/m","created_at":"2026-11-23T14:25:24.213076Z","run_id":"run-1","version_id":"17d3256d-5d7f-433f-95dc-73d3ed9da137","tags":["warm-up"],"pinned":false}','bound','2026-11-23T14:25:24.213076Z','run-1',0,0,'17d3256d-5d7f-433f-95dc-73d3ed9da137');
INSERT INTO "axonml_checkpoints" VALUES(2,'c2','{"metrics":{"loss":"NaN","val":{"loss":0.25},"big":1180591620717411303424},"id":"c2","notebook_id":"bound","epoch":1,"step":0,"model_state_path":"","created_at":"2026-11-23T14:25:24.224372Z","run_id":"run-1","version_id":"17d3256d-5d7f-433f-95dc-73d3ed9da137","provenance_id":"p1","tags":["warm-up"],"pinned":true,"nonfinite":["loss"]}','bound','2026-11-23T14:25:24.224372Z','run-1',1,0,'17d3256d-5d7f-433f-95dc-73d3ed9da137');
CREATE TABLE axonml_contents (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	notebook_id TEXT, 
	ordinal BIGINT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_contents" VALUES(1,'bound/e27ec21aab562a1fced0625b4b2b4920f0e13534','{"notebook_id":"bound","ordinal":0,"content":{"cell_type":"markdown","source":"# Gr\u00fc\u00dfe \ud800","metadata":{}}}','bound',0);
INSERT INTO "axonml_contents" VALUES(2,'bound/386dfd6d29a16d0419de504839e5d40d74c30017','{"notebook_id":"bound","ordinal":0,"content":{"cell_type":"code","source":"import torch","metadata":{}}}','bound',0);
INSERT INTO "axonml_contents" VALUES(3,'bound/464eaf89cbe0773c21dd2632afe0a2c7ad7613aa','{"notebook_id":"bound","ordinal":0,"content":{"nbformat":{"metadata":{"kernelspec":{"name":"python3"}},"nbformat":4,"nbformat_minor":5}}}','bound',0);
INSERT INTO "axonml_contents" VALUES(4,'bound/178328f259902f99135b2991a9850809efa47547','{"notebook_id":"bound","ordinal":1,"content":{"outputs":[{"output_type":"stream","text":"epoch 1\n","name":"stdout"}]}}','bound',1);
INSERT INTO "axonml_contents" VALUES(5,'bound/f66b189b5fab1b896e7c75960ee2d2a7bdbb85cb','{"notebook_id":"bound","ordinal":1,"content":{"cell_type":"code","source":"fit()","metadata":{}}}','bound',1);
INSERT INTO "axonml_contents" VALUES(6,'unbound/ec0a1196c563395ea3e17040b69d4ebc0696d4fb','{"notebook_id":"unbound","ordinal":0,"content":{"cell_type":"code","source":"1 + 1","metadata":{}}}','unbound',0);
INSERT INTO "axonml_contents" VALUES(7,'unbound/712c95a250e0ca8bcf4b7a511e171391350e3bd4','{"notebook_id":"unbound","ordinal":1,"content":{"cell_type":"code","source":"2 + 2","metadata":{}}}','unbound',1);
CREATE TABLE axonml_metrics (
	notebook_id TEXT NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE NOT NULL, 
	created_at TEXT NOT NULL, 
	checkpoint_id TEXT NOT NULL, 
	PRIMARY KEY (notebook_id, name, value, created_at, checkpoint_id)
)
 WITHOUT ROWID

;
INSERT INTO "axonml_metrics" VALUES('bound','big',1.18059162071741130344e+21,'2026-11-23T14:25:24.224372Z','c2');
INSERT INTO "axonml_metrics" VALUES('bound','loss',0.5,'2026-11-23T14:25:24.213076Z','c1');
INSERT INTO "axonml_metrics" VALUES('bound','val.loss',0.25,'2026-11-23T14:25:24.224372Z','c2');
INSERT INTO "axonml_metrics" VALUES('bound','val.loss',0.75,'2026-11-23T14:25:24.213076Z','c1');
CREATE TABLE axonml_notebooks (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	user_id TEXT, 
	status TEXT, 
	created_at TEXT, 
	updated_at TEXT, 
	origin TEXT, 
	path TEXT, 
	embedded_id TEXT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_notebooks" VALUES(1,'bound','{"file":{},"file_tags":["vision"],"embedded_id":"bound","cell_count":3,"cell_statuses":{},"id":"bound","user_id":"ada","name":"train","metadata":{"kernel":"python3","language":"python","tags":["vision"],"extra":{}},"status":"draft","created_at":"2026-11-23T14:25:24.184874Z","updated_at":"2026-11-23T14:25:24.257876Z","path":"/home/ada/train.ipynb","origin":"0123456789abcdef","synced_at":"2026-11-23T14:25:24.255298Z","version_id":"a301d86e-2482-4657-a364-96792a441e1d"}','ada','draft','2026-11-23T14:25:24.184874Z','2026-11-23T14:25:24.257876Z','0123456789abcdef','/home/ada/train.ipynb','bound');
INSERT INTO "axonml_notebooks" VALUES(2,'unbound','{"cell_count":1,"cell_statuses":{},"id":"unbound","user_id":"ada","name":"resnet","description":"by hand","metadata":{"kernel":"axonml","language":"rust","framework":"axonml","tags":["mine"],"extra":{}},"status":"draft","created_at":"2026-11-23T14:25:24.268169Z","updated_at":"2026-11-23T14:25:24.272908Z","version_id":"3d40eac5-edfe-4153-8596-5b9beb2aa40d"}','ada','draft','2026-11-23T14:25:24.268169Z','2026-11-23T14:25:24.272908Z',NULL,NULL,NULL);
CREATE TABLE axonml_provenance (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	notebook_id TEXT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_provenance" VALUES(1,'p1','{"notebook_id":"bound","executed":["import torch","fit()"]}','bound');
CREATE TABLE axonml_runs (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	notebook_id TEXT, 
	started_at TEXT, 
	status TEXT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_runs" VALUES(1,'run-1','{"id":"run-1","notebook_id":"bound","status":"completed","started_at":"2026-11-23T14:25:24.207894Z","ended_at":"2026-11-23T14:25:24.244374Z"}','bound','2026-11-23T14:25:24.207894Z','completed');
INSERT INTO "axonml_runs" VALUES(2,'run-2','{"id":"run-2","notebook_id":"bound","parent_checkpoint_id":"c2","status":"running","started_at":"2026-11-23T14:25:24.252239Z"}','bound','2026-11-23T14:25:24.252239Z','running');
CREATE TABLE axonml_versions (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	notebook_id TEXT, 
	ordinal BIGINT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_versions" VALUES(1,'17d3256d-5d7f-433f-95dc-73d3ed9da137','{"id":"17d3256d-5d7f-433f-95dc-73d3ed9da137","notebook_id":"bound","created_at":"2026-11-23T14:25:24.201250Z","ordinal":0,"cells":[["title","e27ec21aab562a1fced0625b4b2b4920f0e13534",null,null],["import","386dfd6d29a16d0419de504839e5d40d74c30017",null,1]],"metadata":{"kernel":"python3","language":"python","tags":["vision"],"extra":{"nbformat":"464eaf89cbe0773c21dd2632afe0a2c7ad7613aa"}}}','bound',0);
INSERT INTO "axonml_versions" VALUES(2,'a301d86e-2482-4657-a364-96792a441e1d','{"id":"a301d86e-2482-4657-a364-96792a441e1d","notebook_id":"bound","created_at":"2026-11-23T14:25:24.257753Z","ordinal":1,"cells":[["title","e27ec21aab562a1fced0625b4b2b4920f0e13534",null,null],["import","386dfd6d29a16d0419de504839e5d40d74c30017",null,1],["train","f66b189b5fab1b896e7c75960ee2d2a7bdbb85cb","178328f259902f99135b2991a9850809efa47547",2]],"metadata":{"kernel":"python3","language":"python","tags":["vision"],"extra":{"nbformat":"464eaf89cbe0773c21dd2632afe0a2c7ad7613aa"}}}','bound',1);
INSERT INTO "axonml_versions" VALUES(3,'9f677d80-c5c1-4523-84e7-3b8edc10b483','{"id":"9f677d80-c5c1-4523-84e7-3b8edc10b483","notebook_id":"unbound","created_at":"2026-11-23T14:25:24.269917Z","ordinal":0,"cells":[["a","ec0a1196c563395ea3e17040b69d4ebc0696d4fb",null,null]],"metadata":{"kernel":"axonml","language":"rust","framework":"axonml","tags":[],"extra":{}}}','unbound',0);
INSERT INTO "axonml_versions" VALUES(4,'3d40eac5-edfe-4153-8596-5b9beb2aa40d','{"id":"3d40eac5-edfe-4153-8596-5b9beb2aa40d","notebook_id":"unbound","created_at":"2026-11-23T14:25:24.272813Z","ordinal":1,"cells":[["a","712c95a250e0ca8bcf4b7a511e171391350e3bd4",null,null]],"metadata":{"kernel":"axonml","language":"rust","framework":"axonml","tags":[],"extra":{}}}','unbound',1);
CREATE INDEX ix_axonml_notebooks_user_id_updated_at_id ON axonml_notebooks (user_id, updated_at, id);
CREATE INDEX ix_axonml_notebooks_embedded_id ON axonml_notebooks (embedded_id);
CREATE UNIQUE INDEX uq_axonml_notebooks_origin_path ON axonml_notebooks (origin, path);
CREATE INDEX ix_axonml_notebooks_updated_at_id ON axonml_notebooks (updated_at, id);
CREATE UNIQUE INDEX uq_axonml_checkpoints_notebook_id_run_id_epoch_step ON axonml_checkpoints (notebook_id, run_id, epoch, step);
CREATE INDEX ix_axonml_checkpoints_notebook_id_created_at_id ON axonml_checkpoints (notebook_id, created_at, id);
CREATE INDEX ix_axonml_checkpoints_version_id ON axonml_checkpoints (version_id);
CREATE INDEX ix_axonml_runs_notebook_id_started_at_id ON axonml_runs (notebook_id, started_at, id);
CREATE UNIQUE INDEX uq_axonml_versions_notebook_id_ordinal ON axonml_versions (notebook_id, ordinal);
CREATE INDEX ix_axonml_contents_notebook_id_ordinal ON axonml_contents (notebook_id, ordinal);
CREATE INDEX ix_axonml_provenance_notebook_id ON axonml_provenance (notebook_id);
COMMIT;
