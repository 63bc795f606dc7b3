BEGIN TRANSACTION;
CREATE TABLE axon_properties (
	name TEXT NOT NULL, 
	value TEXT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "axon_properties" VALUES('store_id','051a324d-73be-44b5-aeed-255bffc2c7c9');
INSERT INTO "axon_properties" VALUES('schema_version','2');
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
INSERT INTO "axonml_checkpoints" VALUES(1,'c1','{"metrics":{"loss":0.5,"val":{"loss":0.75}},"id":"c1","epoch":0,"step":0,"model_state_path":"/states/m","created_at":"2026-11-29T02:13:45.308297Z","run_id":"run-1","version_id":"db9fe854-d3c8-4325-86b3-2eddfe198c3d","tags":["warm-up"],"pinned":false,"notebook_id":"bound"}','bound','2026-11-29T02:13:45.308297Z','run-1',0,0,'db9fe854-d3c8-4325-86b3-2eddfe198c3d');
INSERT INTO "axonml_checkpoints" VALUES(2,'c2','{"metrics":{"loss":"NaN","val":{"loss":0.25},"big":1180591620717411303424},"id":"c2","epoch":1,"step":0,"model_state_path":"","created_at":"2026-11-29T02:13:45.322741Z","run_id":"run-1","version_id":"db9fe854-d3c8-4325-86b3-2eddfe198c3d","provenance_id":"p1","tags":["warm-up"],"pinned":true,"nonfinite":["loss"],"notebook_id":"bound"}','bound','2026-11-29T02:13:45.322741Z','run-1',1,0,'db9fe854-d3c8-4325-86b3-2eddfe198c3d');
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
INSERT INTO "axonml_contents" VALUES(4,'bound/178328f259902f99135b2991a9850809efa47547','{"ordinal":1,"content":{"outputs":[{"output_type":"stream","text":"epoch 1\n","name":"stdout"}]},"notebook_id":"bound"}','bound',1);
INSERT INTO "axonml_contents" VALUES(5,'bound/f66b189b5fab1b896e7c75960ee2d2a7bdbb85cb','{"ordinal":1,"content":{"cell_type":"code","source":"fit()","metadata":{}},"notebook_id":"bound"}','bound',1);
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
INSERT INTO "axonml_metrics" VALUES('bound','big',1.18059162071741130344e+21,'2026-11-29T02:13:45.322741Z','c2');
INSERT INTO "axonml_metrics" VALUES('bound','loss',0.5,'2026-11-29T02:13:45.308297Z','c1');
INSERT INTO "axonml_metrics" VALUES('bound','val.loss',0.25,'2026-11-29T02:13:45.322741Z','c2');
INSERT INTO "axonml_metrics" VALUES('bound','val.loss',0.75,'2026-11-29T02:13:45.308297Z','c1');
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
INSERT INTO "axonml_notebooks" VALUES(1,'bound','{"file":{},"file_tags":["vision"],"embedded_id":"bound","cell_count":3,"cell_statuses":{},"name":"train","metadata":{"kernel":"python3","language":"python","tags":["vision"],"extra":{}},"status":"running","created_at":"2026-11-29T02:13:44.753053Z","updated_at":"2026-11-29T02:13:45.365244Z","path":"/home/ada/train.ipynb","origin":"0123456789abcdef","synced_at":"2026-11-29T02:13:45.362240Z","version_id":"9d1594e3-2299-4047-9b8f-b23e0e536f12","id":"bound","user_id":"ada"}','ada','running','2026-11-29T02:13:44.753053Z','2026-11-29T02:13:45.365244Z','0123456789abcdef','/home/ada/train.ipynb','bound');
INSERT INTO "axonml_notebooks" VALUES(2,'unbound','{"cell_count":1,"cell_statuses":{},"name":"resnet","description":"by hand","metadata":{"kernel":"axonml","language":"rust","framework":"axonml","tags":["mine"],"extra":{}},"status":"draft","created_at":"2026-11-29T02:13:45.374558Z","updated_at":"2026-11-29T02:13:45.383170Z","version_id":"55859256-b1df-4568-ad1c-aff819918f90","id":"unbound","user_id":"ada"}','ada','draft','2026-11-29T02:13:45.374558Z','2026-11-29T02:13:45.383170Z',NULL,NULL,NULL);
CREATE TABLE axonml_provenance (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	notebook_id TEXT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_provenance" VALUES(1,'p1','{"executed":["import torch","fit()"],"notebook_id":"bound"}','bound');
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
INSERT INTO "axonml_runs" VALUES(1,'bound/4e65d3fbe8ad6535681b021b30785b12b6c0e3f8878859a4148b3f58b8835db0','{"id":"run-1","status":"completed","started_at":"2026-11-29T02:13:44.775518Z","ended_at":"2026-11-29T02:13:45.342474Z","notebook_id":"bound"}','bound','2026-11-29T02:13:44.775518Z','completed');
INSERT INTO "axonml_runs" VALUES(2,'bound/b9d17232a4c83d9928ee0d4e6fab81d3802cd3bf898149558e1abf8b24e1ba49','{"id":"run-2","parent_checkpoint_id":"c2","status":"running","started_at":"2026-11-29T02:13:45.354640Z","notebook_id":"bound"}','bound','2026-11-29T02:13:45.354640Z','running');
CREATE TABLE axonml_versions (
	seq INTEGER NOT NULL, 
	id TEXT NOT NULL, 
	document TEXT NOT NULL, 
	notebook_id TEXT, 
	ordinal BIGINT, 
	PRIMARY KEY (seq), 
	UNIQUE (id)
);
INSERT INTO "axonml_versions" VALUES(1,'db9fe854-d3c8-4325-86b3-2eddfe198c3d','{"id":"db9fe854-d3c8-4325-86b3-2eddfe198c3d","created_at":"2026-11-29T02:13:44.769130Z","ordinal":0,"cells":[["title","e27ec21aab562a1fced0625b4b2b4920f0e13534",null,null],["import","386dfd6d29a16d0419de504839e5d40d74c30017",null,1]],"metadata":{"kernel":"python3","language":"python","tags":["vision"],"extra":{"nbformat":"464eaf89cbe0773c21dd2632afe0a2c7ad7613aa"}},"notebook_id":"bound"}','bound',0);
INSERT INTO "axonml_versions" VALUES(2,'9d1594e3-2299-4047-9b8f-b23e0e536f12','{"id":"9d1594e3-2299-4047-9b8f-b23e0e536f12","created_at":"2026-11-29T02:13:45.365080Z","ordinal":1,"cells":[["title","e27ec21aab562a1fced0625b4b2b4920f0e13534",null,null],["import","386dfd6d29a16d0419de504839e5d40d74c30017",null,1],["train","f66b189b5fab1b896e7c75960ee2d2a7bdbb85cb","178328f259902f99135b2991a9850809efa47547",2]],"metadata":{"kernel":"python3","language":"python","tags":["vision"],"extra":{"nbformat":"464eaf89cbe0773c21dd2632afe0a2c7ad7613aa"}},"notebook_id":"bound"}','bound',1);
INSERT INTO "axonml_versions" VALUES(3,'c8d560ec-1b25-496d-9bb0-2a6dccea3efb','{"id":"c8d560ec-1b25-496d-9bb0-2a6dccea3efb","created_at":"2026-11-29T02:13:45.375904Z","ordinal":0,"cells":[["a","ec0a1196c563395ea3e17040b69d4ebc0696d4fb",null,null]],"metadata":{"kernel":"axonml","language":"rust","framework":"axonml","tags":[],"extra":{}},"notebook_id":"unbound"}','unbound',0);
INSERT INTO "axonml_versions" VALUES(4,'55859256-b1df-4568-ad1c-aff819918f90','{"id":"55859256-b1df-4568-ad1c-aff819918f90","created_at":"2026-11-29T02:13:45.383044Z","ordinal":1,"cells":[["a","712c95a250e0ca8bcf4b7a511e171391350e3bd4",null,null]],"metadata":{"kernel":"axonml","language":"rust","framework":"axonml","tags":[],"extra":{}},"notebook_id":"unbound"}','unbound',1);
CREATE UNIQUE INDEX uq_axonml_notebooks_origin_path ON axonml_notebooks (origin, path);
CREATE INDEX ix_axonml_notebooks_updated_at_id ON axonml_notebooks (updated_at, id);
CREATE INDEX ix_axonml_notebooks_user_id_updated_at_id ON axonml_notebooks (user_id, updated_at, id);
CREATE INDEX ix_axonml_notebooks_embedded_id ON axonml_notebooks (embedded_id);
CREATE UNIQUE INDEX uq_axonml_checkpoints_notebook_id_run_id_epoch_step ON axonml_checkpoints (notebook_id, run_id, epoch, step);
CREATE INDEX ix_axonml_checkpoints_version_id ON axonml_checkpoints (version_id);
CREATE INDEX ix_axonml_checkpoints_notebook_id_created_at_id ON axonml_checkpoints (notebook_id, created_at, id);
CREATE INDEX ix_axonml_runs_notebook_id_started_at_id ON axonml_runs (notebook_id, started_at, id);
CREATE UNIQUE INDEX uq_axonml_versions_notebook_id_ordinal ON axonml_versions (notebook_id, ordinal);
CREATE INDEX ix_axonml_contents_notebook_id_ordinal ON axonml_contents (notebook_id, ordinal);
CREATE INDEX ix_axonml_provenance_notebook_id ON axonml_provenance (notebook_id);
COMMIT;
