/** A client of the REST API under `<base url>/axon`. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';

import type { SeriesOfRuns } from './pure/series.ts';
import type {
  ICellChange,
  ICheckpoint,
  ICheckpointChange,
  ICheckpointDiff,
  INotebook,
  INotebookChange,
  INotebookSummary,
  IProvenance,
  IRun,
  IRunChange,
  IRunComparison,
  IRunReproducibility,
  IRunRow,
  IRunSeries,
  IRunTable,
  IVersion,
  IVersionSummary
} from './records.ts';

/** The largest page that the server returns. */
export const PAGE_SIZE = 1000;
/** The most runs in a request for series or reproducibility: the server accepts 100, and some proxies shorter URLs. */
const MAX_RUNS = 50;
/** Number of responses that a client keeps for conditional requests. */
const CACHE_SIZE = 100;
/** Number of records to search for a path: other machines may have files of the same path. */
const PATH_MATCHES = 10;
/** Changes with every change of the store. */
const REVISION_HEADER = 'X-Axon-Revision';

/** The server refused a request; `message` is its explanation. */
export class ResponseError extends Error {
  readonly status: number;
  /** For an invalid filter: where the error is, from 0. */
  readonly position: number | undefined;
  /** For an invalid filter: similar names. */
  readonly suggestions: readonly string[];

  constructor(status: number, message: string, details: IErrorDetails = {}) {
    super(message);
    this.status = status;
    this.position = details.position;
    this.suggestions = details.suggestions ?? [];
  }
}

interface IErrorDetails {
  position?: number;
  suggestions?: readonly string[];
}

/** The server runs without this extension. */
export class ExtensionMissingError extends ResponseError {}

/** Return what names a run among all notebooks: its id is unique only within its notebook. */
export function runKey(notebookId: string, runId: string): string {
  return `${notebookId}/${runId}`;
}

/** Return the id of the run that a key names. */
export function runIdOf(key: string): string {
  return key.slice(key.indexOf('/') + 1);
}

/** Return whether the server has the extension, but not what was requested. */
export function isNotFound(error: unknown): boolean {
  return (
    error instanceof ResponseError &&
    !(error instanceof ExtensionMissingError) &&
    error.status === 404
  );
}

/** Return whether what was requested does not exist, or belongs to another user. */
export function isInaccessible(error: unknown): boolean {
  return isNotFound(error) || (error instanceof ResponseError && error.status === 403);
}

/** A part of a list and the length of the whole list. */
export interface IPage<T> {
  items: readonly T[];
  total: number;
}

interface IResponse<T> {
  body: T;
  total: number;
  revision: string | null;
}

export interface IClientOptions {
  /** Whether requests are not counted as user activity, which would keep an idle server alive. */
  background?: boolean;
}

/** Which runs to list, and in which order; see the reference of filters. */
export interface IRunQuery {
  where?: string;
  /** Ids of runs, separated by commas. */
  ids?: string;
  /** Keys of runs; see `runKey`. */
  id?: readonly string[];
  sort?: string;
  limit?: number;
}

type Query = Record<string, string | number | boolean | readonly string[]>;

/**
 * A client of the server.
 *
 * Lists and records are requested conditionally: while nothing has changed, the same object is returned again. Every
 * method rejects with a ResponseError, or with a NetworkError if the server cannot be reached.
 */
export class AxonClient {
  readonly #settings: ServerConnection.ISettings;
  readonly #trans: TranslationBundle;
  readonly #defaults: Query;
  readonly #cache = new Map<string, { etag: string; response: IResponse<unknown> }>();

  constructor(
    settings: ServerConnection.ISettings,
    trans: TranslationBundle,
    { background = false }: IClientOptions = {}
  ) {
    this.#settings = settings;
    this.#trans = trans;
    this.#defaults = background ? { no_track_activity: 1 } : {};
  }

  /** Return a client of the same server with a cache of its own. */
  clone(options: IClientOptions = {}): AxonClient {
    return new AxonClient(this.#settings, this.#trans, options);
  }

  clearCache(): void {
    this.#cache.clear();
  }

  /** Return the record of the notebook at a path of the contents API. */
  async findByPath(path: string): Promise<INotebookSummary | undefined> {
    const query = { path, limit: PATH_MATCHES };
    const { body } = await this.#getCached<INotebookSummary[]>('notebooks', query);
    const bound = body.filter(item => item.path !== undefined);
    return bound.find(item => item.path === path) ?? bound[0]; // the target of a link has another path
  }

  /** Return the record of a notebook file, created if there is none. */
  sync(path: string): Promise<INotebook> {
    return this.#send('POST', 'notebooks/sync', { path });
  }

  /** Return a record without the outputs of its cells, and the revision of the store if the server reports it. */
  async notebook(id: string): Promise<{ notebook: INotebook; revision: string | null }> {
    const { body, revision } = await this.#getCached<INotebook>(notebookUrl(id), {
      outputs: false
    });
    return { notebook: body, revision };
  }

  updateNotebook(id: string, change: INotebookChange): Promise<INotebook> {
    return this.#send('PUT', notebookUrl(id), change);
  }

  /** List checkpoints, newest first; with `run_id`, those of one run. */
  checkpoints(
    id: string,
    query: { limit: number; offset?: number; run_id?: string }
  ): Promise<IPage<ICheckpoint>> {
    return this.#list(`${notebookUrl(id)}/checkpoints`, query);
  }

  best(id: string, metric: string, minimize: boolean): Promise<ICheckpoint | null> {
    return this.#get(`${notebookUrl(id)}/checkpoints/best`, { metric, minimize });
  }

  updateCheckpoint(
    id: string,
    checkpoint: string,
    change: ICheckpointChange
  ): Promise<ICheckpoint> {
    return this.#send('PUT', checkpointUrl(id, checkpoint), change);
  }

  async deleteCheckpoint(id: string, checkpoint: string): Promise<void> {
    await this.#send('DELETE', checkpointUrl(id, checkpoint));
  }

  /** Return the URL of a state file. */
  stateUrl(id: string, checkpoint: string, part: 'model' | 'optimizer'): string {
    return this.#url(`${checkpointUrl(id, checkpoint)}/states/${part}`);
  }

  /** Return the metrics of every run. */
  async metrics(id: string): Promise<IRunSeries[]> {
    return (await this.#get<{ runs: IRunSeries[] }>(`${notebookUrl(id)}/metrics`)).runs;
  }

  /** Return all runs, newest first. */
  async runs(id: string): Promise<readonly IRun[]> {
    const runs: IRun[] = [];
    let total = PAGE_SIZE;
    for (let offset = 0; offset < total; offset += PAGE_SIZE) {
      const page = await this.#list<IRun>(`${notebookUrl(id)}/runs`, { limit: PAGE_SIZE, offset });
      runs.push(...page.items);
      total = page.total;
    }
    return runs;
  }

  /** Return the values of metrics of runs by the key of the run and metric; without runs that no longer exist. */
  async series(
    runs: readonly string[],
    metrics: readonly string[],
    points: number
  ): Promise<SeriesOfRuns> {
    const parts = await mapBatches(runs, ids =>
      this.#get<{ series: SeriesOfRuns }>('runs/series', {
        id: ids,
        key: metrics,
        points
      })
    );
    return Object.assign({}, ...parts.map(({ series }) => series)) as SeriesOfRuns;
  }

  run(notebookId: string, id: string): Promise<IRun> {
    return this.#get(`runs/${encodeURIComponent(id)}`, { notebook_id: notebookId });
  }

  /** List versions, newest first. */
  versions(id: string, query: { limit: number; offset?: number }): Promise<IPage<IVersionSummary>> {
    return this.#list(`${notebookUrl(id)}/versions`, query);
  }

  version(id: string, version: string): Promise<IVersion> {
    return this.#get(`${notebookUrl(id)}/versions/${encodeURIComponent(version)}`);
  }

  /** Return the notebook file of a version. */
  async exportVersion(id: string, version: string): Promise<unknown> {
    const url = `${notebookUrl(id)}/export`;
    return JSON.parse((await this.#get<{ content: string }>(url, { version })).content);
  }

  provenance(id: string, checkpoint: string): Promise<IProvenance> {
    return this.#get(`${checkpointUrl(id, checkpoint)}/provenance`);
  }

  /** Compare two checkpoints. */
  checkpointDiff(id: string, from: string, to: string): Promise<ICheckpointDiff> {
    return this.#get(`${notebookUrl(id)}/checkpoints/diff`, { from, to });
  }

  /** Compare the sources of the cells of two versions. */
  async diff(id: string, from: string, to: string): Promise<ICellChange[]> {
    const url = `${notebookUrl(id)}/diff`;
    return (await this.#get<{ changes: ICellChange[] }>(url, { from, to })).changes;
  }

  /** Return runs of all notebooks, and the revision of the store if the server reports it. */
  async runTable(
    query: IRunQuery = {}
  ): Promise<IRunTable & { isChanged: boolean; revision: string | null }> {
    const { body, isChanged, revision } = await this.#getCached<IRunTable>('runs/table', {
      ...query
    });
    if (isChanged) {
      for (const run of body.runs) {
        run.run_id = run.id;
        run.id = runKey(run.notebook_id, run.id);
      }
    }
    return { ...body, isChanged, revision };
  }

  /** Return the keys of the runs that match a filter. */
  async runKeys(where: string): Promise<readonly string[]> {
    const query = { where, only_ids: true };
    const { body } = await this.#getCached<{ ids: string[]; notebook_ids: string[] }>(
      'runs/table',
      query
    );
    return body.ids.map((id, index) => runKey(body.notebook_ids[index] ?? '', id));
  }

  updateRun(run: IRunRow, change: IRunChange): Promise<unknown> {
    return this.#send('PUT', runUrl(run), change);
  }

  async deleteRun(run: IRunRow, withPinned: boolean): Promise<void> {
    await this.#send('DELETE', `${runUrl(run)}&with_pinned=${withPinned}`);
  }

  /** Compare the code of runs with that of a run of their notebook, and return why each may not be reproducible. */
  async reproducibility(
    ids: readonly string[],
    baseOf: (id: string) => string | undefined
  ): Promise<readonly IRunReproducibility[]> {
    const parts = await mapBatches(
      ids,
      batch =>
        this.#getCached<{ runs: IRunReproducibility[] }>('runs/reproducibility', {
          id: batch,
          base: [...new Set(batch.flatMap(id => baseOf(id) ?? []))]
        }),
      MAX_RUNS / 2 // there may be as many bases
    );
    return parts.flatMap(({ body }) =>
      body.runs.map(run => ({ ...run, run_id: runKey(run.notebook_id, run.run_id) }))
    );
  }

  /** Compare 2 to 20 runs with the first of them. */
  async compareRuns(ids: readonly string[]): Promise<IRunComparison> {
    return (await this.#getCached<IRunComparison>('runs/compare', { id: ids })).body;
  }

  #url(path: string, query: Query = {}): string {
    const entries = Object.entries(query).flatMap(([name, value]) =>
      (Array.isArray(value) ? value : [value]).map(item => [name, String(item)])
    );
    const search = entries.length === 0 ? '' : `?${new URLSearchParams(entries).toString()}`;
    return URLExt.join(this.#settings.baseUrl, 'axon', path) + search;
  }

  async #get<T>(path: string, query: Query = {}): Promise<T> {
    const response = await this.#request(this.#url(path, { ...query, ...this.#defaults }), {});
    return this.#parse(response);
  }

  async #list<T>(path: string, query: Query): Promise<IPage<T>> {
    const { body, total } = await this.#getCached<readonly T[]>(path, query);
    return { items: body, total };
  }

  async #getCached<T>(path: string, query: Query): Promise<IResponse<T> & { isChanged: boolean }> {
    const url = this.#url(path, { ...query, ...this.#defaults });
    const cached = this.#cache.get(url);
    const headers: HeadersInit = cached === undefined ? {} : { 'If-None-Match': cached.etag };
    const response = await this.#request(url, { headers });
    const revision = response.headers.get(REVISION_HEADER);
    if (response.status === 304 && cached !== undefined) {
      this.#store(url, cached.etag, cached.response);
      return { ...(cached.response as IResponse<T>), revision, isChanged: false };
    }
    const body = await this.#parse<T>(response);
    const total = Number(response.headers.get('X-Total-Count') ?? 0);
    const etag = response.headers.get('ETag');
    if (etag !== null) {
      this.#store(url, etag, { body, total, revision });
    }
    return { body, total, revision, isChanged: true };
  }

  #store(url: string, etag: string, response: IResponse<unknown>): void {
    this.#cache.delete(url); // makes it the newest entry
    this.#cache.set(url, { etag, response });
    const [oldest] = this.#cache.keys();
    if (this.#cache.size > CACHE_SIZE && oldest !== undefined) {
      this.#cache.delete(oldest);
    }
  }

  async #send<T>(method: 'POST' | 'PUT' | 'DELETE', path: string, body?: object): Promise<T> {
    const response = await this.#request(this.#url(path), {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) })
    });
    return response.status === 204 ? (undefined as T) : this.#parse(response);
  }

  async #parse<T>(response: Response): Promise<T> {
    try {
      return (await response.json()) as T;
    } catch (error) {
      if (error instanceof SyntaxError) {
        // For example the login page of a proxy.
        throw new ResponseError(
          response.status,
          this.#trans.__('The response is not from this server. Reload the page to log in again.')
        );
      }
      throw error;
    }
  }

  async #request(url: string, init: RequestInit): Promise<Response> {
    const response = await ServerConnection.makeRequest(url, init, this.#settings);
    if (response.ok || response.status === 304) {
      return response;
    }
    const { message, ...details } = await readError(response);
    if (message === undefined && response.status === 404) {
      throw new ExtensionMissingError(
        404,
        this.#trans.__(
          'The Jupyter server runs without the extension that keeps training records. Restart the server. If that does not help, run `jupyter server extension list` and look for jupyter_axon_notebooks.'
        )
      );
    }
    throw new ResponseError(
      response.status,
      message ?? `${response.status} ${response.statusText}`,
      details
    );
  }
}

/** Call a function with so many of the runs as a request may name, one call after the other. */
async function mapBatches<T>(
  ids: readonly string[],
  request: (ids: readonly string[]) => Promise<T>,
  size = MAX_RUNS
): Promise<T[]> {
  const results: T[] = [];
  for (let start = 0; start < ids.length; start += size) {
    results.push(await request(ids.slice(start, start + size)));
  }
  return results;
}

function notebookUrl(id: string): string {
  return `notebooks/${encodeURIComponent(id)}`;
}

function runUrl({ notebook_id, run_id }: IRunRow): string {
  return `runs/${encodeURIComponent(run_id)}?notebook_id=${encodeURIComponent(notebook_id)}`;
}

function checkpointUrl(id: string, checkpoint: string): string {
  return `${notebookUrl(id)}/checkpoints/${encodeURIComponent(checkpoint)}`;
}

/** Read an error of the extension; without a message if the response is not from the extension. */
async function readError(response: Response): Promise<IErrorDetails & { message?: string }> {
  try {
    const { message, position, suggestions } = (await response.json()) as Record<string, unknown>;
    return {
      ...(typeof message === 'string' && message !== '' ? { message } : {}),
      ...(typeof position === 'number' ? { position } : {}),
      ...(Array.isArray(suggestions) ? { suggestions: suggestions.map(String) } : {})
    };
  } catch {
    return {}; // not JSON: from a proxy, or from a server without the extension
  }
}
