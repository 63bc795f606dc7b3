BEGIN TRANSACTION;
CREATE TABLE axon_properties (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "axon_properties" VALUES('store_id','d6c3314a-1a66-4f84-8d29-87ea41f5f191');
INSERT INTO "axon_properties" VALUES('schema_version','3');
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
	state_size BIGINT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_checkpoints" VALUES(1,'c1','{"metrics":{"loss":0.5,"val":{"loss":0.75}},"step":0,"id":"c1","epoch":0,"model_state_path":"/states/m","created_at":"2026-11-29T23:09:00.704012Z","run_id":"run-1","version_id":"3eb3e96c-b6b1-4bd5-b9bd-1431100afddb","tags":["warm-up"],"pinned":false,"notebook_id":"bound"}','bound','2026-11-29T23:09:00.704012Z','run-1',0,0,'3eb3e96c-b6b1-4bd5-b9bd-1431100afddb',0);
INSERT INTO "axonml_checkpoints" VALUES(2,'c2','{"metrics":{"loss":"NaN","val":{"loss":0.25},"big":1180591620717411303424},"step":0,"id":"c2","epoch":1,"model_state_path":"","created_at":"2026-11-29T23:09:00.731151Z","run_id":"run-1","version_id":"3eb3e96c-b6b1-4bd5-b9bd-1431100afddb","provenance_id":"p1","tags":["warm-up"],"pinned":true,"nonfinite":["loss"],"notebook_id":"bound"}','bound','2026-11-29T23:09:00.731151Z','run-1',1,0,'3eb3e96c-b6b1-4bd5-b9bd-1431100afddb',0);
CREATE TABLE axonml_contents (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	notebook_id TEXT, 
	ordinal BIGINT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_contents" VALUES(1,'bound/e27ec21aab562a1fced0625b4b2b4920f0e13534','{"ordinal":0,"content":{"cell_type":"markdown","source":"# Gr\u00fc\u00dfe \ud800","metadata":{}},"notebook_id":"bound"}','bound',0);
INSERT INTO "axonml_contents" VALUES(2,'bound/464eaf89cbe0773c21dd2632afe0a2c7ad7613aa','{"ordinal":0,"content":{"nbformat":{"metadata":{"kernelspec":{"name":"python3"}},"nbformat":4,"nbformat_minor":5}},"notebook_id":"bound"}','bound',0);
INSERT INTO "axonml_contents" VALUES(3,'bound/386dfd6d29a16d0419de504839e5d40d74c30017','{"ordinal":0,"content":{"cell_type":"code","source":"import torch","metadata":{}},"notebook_id":"bound"}','bound',0);
INSERT INTO "axonml_contents" VALUES(4,'bound/f66b189b5fab1b896e7c75960ee2d2a7bdbb85cb','{"ordinal":1,"content":{"cell_type":"code","source":"fit()","metadata":{}},"notebook_id":"bound"}','bound',1);
INSERT INTO "axonml_contents" VALUES(5,'bound/178328f259902f99135b2991a9850809efa47547','{"ordinal":1,"content":{"outputs":[{"output_type":"stream","text":"epoch 1\n","name":"stdout"}]},"notebook_id":"bound"}','bound',1);
INSERT INTO "axonml_contents" VALUES(6,'unbound/ec0a1196c563395ea3e17040b69d4ebc0696d4fb','{"ordinal":0,"content":{"cell_type":"code","source":"1 + 1","metadata":{}},"notebook_id":"unbound"}','unbound',0);
INSERT INTO "axonml_contents" VALUES(7,'unbound/712c95a250e0ca8bcf4b7a511e171391350e3bd4','{"ordinal":1,"content":{"cell_type":"code","source":"2 + 2","metadata":{}},"notebook_id":"unbound"}','unbound',1);
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
INSERT INTO "axonml_metrics" VALUES('bound','big',1.18059162071741130344e+21,'2026-11-29T23:09:00.731151Z','c2');
INSERT INTO "axonml_metrics" VALUES('bound','loss',0.5,'2026-11-29T23:09:00.704012Z','c1');
INSERT INTO "axonml_metrics" VALUES('bound','val.loss',0.25,'2026-11-29T23:09:00.731151Z','c2');
INSERT INTO "axonml_metrics" VALUES('bound','val.loss',0.75,'2026-11-29T23:09:00.704012Z','c1');
CREATE TABLE axonml_notebooks (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	user_id TEXT, 
	name TEXT, 
	status TEXT, 
	created_at TEXT, 
	updated_at TEXT, 
	origin TEXT, 
	path TEXT, 
	embedded_id TEXT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_notebooks" VALUES(1,'bound','{"file":{},"file_tags":["vision"],"embedded_id":"bound","cell_count":3,"cell_statuses":{},"name":"train","metadata":{"kernel":"python3","language":"python","tags":["vision"],"extra":{}},"status":"running","created_at":"2026-11-29T23:09:00.444478Z","updated_at":"2026-11-29T23:09:00.782163Z","path":"/home/ada/train.ipynb","origin":"0123456789abcdef","synced_at":"2026-11-29T23:09:00.778418Z","version_id":"48f61162-7a75-4c44-8592-e153e00e0537","id":"bound","user_id":"ada"}','ada','train','running','2026-11-29T23:09:00.444478Z','2026-11-29T23:09:00.782163Z','0123456789abcdef','/home/ada/train.ipynb','bound');
INSERT INTO "axonml_notebooks" VALUES(2,'unbound','{"cell_count":1,"cell_statuses":{},"name":"resnet","description":"by hand","metadata":{"kernel":"axonml","language":"rust","framework":"axonml","tags":["mine"],"extra":{}},"status":"draft","created_at":"2026-11-29T23:09:00.797517Z","updated_at":"2026-11-29T23:09:00.807350Z","version_id":"03c83161-2e33-4643-9282-42f7e44bc8e9","id":"unbound","user_id":"ada"}','ada','resnet','draft','2026-11-29T23:09:00.797517Z','2026-11-29T23:09:00.807350Z',NULL,NULL,NULL);
CREATE TABLE axonml_provenance (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	notebook_id TEXT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_provenance" VALUES(1,'p1','{"executed":["import torch","fit()"],"notebook_id":"bound"}','bound');
CREATE TABLE axonml_run_metrics (
	name TEXT NOT NULL, 
	run BIGINT NOT NULL, 
	notebook_id TEXT NOT NULL, 
	last DOUBLE, 
	min DOUBLE, 
	max DOUBLE, 
	last_step BIGINT, 
	min_step BIGINT, 
	max_step BIGINT, 
	PRIMARY KEY (name, run, notebook_id)
)
 WITHOUT ROWID

;
INSERT INTO "axonml_run_metrics" VALUES('big',1,'bound',1.18059162071741130344e+21,1.18059162071741130344e+21,1.18059162071741130344e+21,0,0,0);
INSERT INTO "axonml_run_metrics" VALUES('loss',1,'bound',0.1,0.1,1.0,9,9,0);
INSERT INTO "axonml_run_metrics" VALUES('val.loss',1,'bound',0.25,0.25,0.75,0,0,0);
CREATE TABLE axonml_run_values (
	name TEXT NOT NULL, 
	run BIGINT NOT NULL, 
	item INTEGER NOT NULL, 
	notebook_id TEXT NOT NULL, 
	number DOUBLE, 
	text TEXT, 
	PRIMARY KEY (name, run, item, notebook_id)
)
 WITHOUT ROWID

;
INSERT INTO "axonml_run_values" VALUES('config.layers',1,-2,'bound',NULL,'[64.0,64.0]');
INSERT INTO "axonml_run_values" VALUES('config.layers',1,0,'bound',64.0,NULL);
INSERT INTO "axonml_run_values" VALUES('config.layers',1,1,'bound',64.0,NULL);
INSERT INTO "axonml_run_values" VALUES('config.lr',1,-1,'bound',0.1,NULL);
INSERT INTO "axonml_run_values" VALUES('config.model.name',1,-1,'bound',NULL,'wide');
INSERT INTO "axonml_run_values" VALUES('id',1,-1,'bound',NULL,'run-1');
INSERT INTO "axonml_run_values" VALUES('id',2,-1,'bound',NULL,'run-2');
INSERT INTO "axonml_run_values" VALUES('tags',1,-2,'bound',NULL,'["baseline"]');
INSERT INTO "axonml_run_values" VALUES('tags',1,0,'bound',NULL,'baseline');
INSERT INTO "axonml_run_values" VALUES('tags',2,-2,'bound',NULL,'[]');
CREATE TABLE axonml_runs (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	notebook_id TEXT, 
	started_at TEXT, 
	status TEXT, 
	ended_at TEXT, 
	lease_until TEXT, 
	name TEXT, 
	number BIGINT, 
	step_count BIGINT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_runs" VALUES(1,'bound/4e65d3fbe8ad6535681b021b30785b12b6c0e3f8878859a4148b3f58b8835db0','{"id":"run-1","status":"completed","started_at":"2026-11-29T23:09:00.466322Z","ended_at":"2026-11-29T23:09:00.760295Z","name":"first","number":1,"config":{"lr":0.1,"layers":[64,64],"model":{"name":"wide"}},"tags":["baseline"],"step_count":10,"last_step":9,"notebook_id":"bound"}','bound','2026-11-29T23:09:00.466322Z','completed','2026-11-29T23:09:00.760295Z',NULL,'first',1,10);
INSERT INTO "axonml_runs" VALUES(2,'bound/b9d17232a4c83d9928ee0d4e6fab81d3802cd3bf898149558e1abf8b24e1ba49','{"id":"run-2","parent_checkpoint_id":"c2","status":"running","started_at":"2026-11-29T23:09:00.771979Z","number":2,"tags":[],"notebook_id":"bound"}','bound','2026-11-29T23:09:00.771979Z','running',NULL,NULL,NULL,2,NULL);
CREATE TABLE axonml_series (
	notebook_id TEXT NOT NULL, 
	run BIGINT NOT NULL, 
	name TEXT NOT NULL, 
	number INTEGER NOT NULL, 
	count INTEGER NOT NULL, 
	content BLOB NOT NULL, 
	PRIMARY KEY (notebook_id, run, name, number)
);
INSERT INTO "axonml_series" VALUES('bound',1,'loss',0,10,X'010A00000014000000360000001E00000069310000000000000000000101010101010101010178016360086598153A89416616039035335485E1F84C08CB93A110CA02CA4259A8B21F1E5CBD70F2E8A1037B76DAC30100928B1A41693420A1070000000000017801737080022718E087010618000084E4051A');
CREATE TABLE axonml_spools (
	notebook_id TEXT NOT NULL, 
	run BIGINT NOT NULL, 
	spool TEXT NOT NULL, 
	"offset" BIGINT NOT NULL, 
	PRIMARY KEY (notebook_id, run, spool)
);
INSERT INTO "axonml_spools" VALUES('bound',1,'s',100);
CREATE TABLE axonml_versions (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	notebook_id TEXT, 
	ordinal BIGINT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_versions" VALUES(1,'3eb3e96c-b6b1-4bd5-b9bd-1431100afddb','{"id":"3eb3e96c-b6b1-4bd5-b9bd-1431100afddb","created_at":"2026-11-29T23:09:00.449851Z","ordinal":0,"cells":[["title","e27ec21aab562a1fced0625b4b2b4920f0e13534",null,null],["import","386dfd6d29a16d0419de504839e5d40d74c30017",null,1]],"metadata":{"kernel":"python3","language":"python","tags":["vision"],"extra":{"nbformat":"464eaf89cbe0773c21dd2632afe0a2c7ad7613aa"}},"failed":[],"notebook_id":"bound"}','bound',0);
INSERT INTO "axonml_versions" VALUES(2,'48f61162-7a75-4c44-8592-e153e00e0537','{"id":"48f61162-7a75-4c44-8592-e153e00e0537","created_at":"2026-11-29T23:09:00.781976Z","ordinal":1,"cells":[["title","e27ec21aab562a1fced0625b4b2b4920f0e13534",null,null],["import","386dfd6d29a16d0419de504839e5d40d74c30017",null,1],["train","f66b189b5fab1b896e7c75960ee2d2a7bdbb85cb","178328f259902f99135b2991a9850809efa47547",2]],"metadata":{"kernel":"python3","language":"python","tags":["vision"],"extra":{"nbformat":"464eaf89cbe0773c21dd2632afe0a2c7ad7613aa"}},"failed":[],"notebook_id":"bound"}','bound',1);
INSERT INTO "axonml_versions" VALUES(3,'3a6f133a-3fe8-4105-b57b-121a1b21c9d4','{"id":"3a6f133a-3fe8-4105-b57b-121a1b21c9d4","created_at":"2026-11-29T23:09:00.804111Z","ordinal":0,"cells":[["a","ec0a1196c563395ea3e17040b69d4ebc0696d4fb",null,null]],"metadata":{"kernel":"axonml","language":"rust","framework":"axonml","tags":[],"extra":{}},"failed":[],"notebook_id":"unbound"}','unbound',0);
INSERT INTO "axonml_versions" VALUES(4,'03c83161-2e33-4643-9282-42f7e44bc8e9','{"id":"03c83161-2e33-4643-9282-42f7e44bc8e9","created_at":"2026-11-29T23:09:00.807246Z","ordinal":1,"cells":[["a","712c95a250e0ca8bcf4b7a511e171391350e3bd4",null,null]],"metadata":{"kernel":"axonml","language":"rust","framework":"axonml","tags":[],"extra":{}},"failed":[],"notebook_id":"unbound"}','unbound',1);
CREATE INDEX ix_axonml_notebooks_user_id_updated_at_id ON axonml_notebooks (user_id, updated_at, id);
CREATE INDEX ix_axonml_notebooks_embedded_id ON axonml_notebooks (embedded_id);
CREATE INDEX ix_axonml_notebooks_updated_at_id ON axonml_notebooks (updated_at, id);
CREATE UNIQUE INDEX uq_axonml_notebooks_origin_path ON axonml_notebooks (origin, path);
CREATE INDEX ix_axonml_checkpoints_notebook_id_run_id_state_size ON axonml_checkpoints (notebook_id, run_id, state_size);
CREATE UNIQUE INDEX uq_axonml_checkpoints_notebook_id_run_id_epoch_step ON axonml_checkpoints (notebook_id, run_id, epoch, step);
CREATE INDEX ix_axonml_checkpoints_version_id ON axonml_checkpoints (version_id);
CREATE INDEX ix_axonml_checkpoints_notebook_id_created_at_id ON axonml_checkpoints (notebook_id, created_at, id);
CREATE INDEX ix_axonml_runs_notebook_id_started_at_id ON axonml_runs (notebook_id, started_at, id);
CREATE INDEX ix_axonml_runs_started_at_id ON axonml_runs (started_at, id);
CREATE UNIQUE INDEX uq_axonml_versions_notebook_id_ordinal ON axonml_versions (notebook_id, ordinal);
CREATE INDEX ix_axonml_contents_notebook_id_ordinal ON axonml_contents (notebook_id, ordinal);
CREATE INDEX ix_axonml_provenance_notebook_id ON axonml_provenance (notebook_id);
CREATE INDEX ix_axonml_run_values_notebook_id_name ON axonml_run_values (notebook_id, name);
CREATE INDEX ix_axonml_run_values_run ON axonml_run_values (run);
CREATE INDEX ix_axonml_run_metrics_run ON axonml_run_metrics (run);
CREATE INDEX ix_axonml_run_metrics_notebook_id_name ON axonml_run_metrics (notebook_id, name);
COMMIT;
