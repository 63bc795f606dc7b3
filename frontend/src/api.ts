/** REST, as the panel uses it: `<base url>/axon`. */

import { URLExt } from '@jupyterlab/coreutils';
import { ServerConnection } from '@jupyterlab/services';
import type { TranslationBundle } from '@jupyterlab/translation';

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
  IRunSeries,
  IVersion,
  IVersionSummary
} from './records.ts';

/** The most that a list gives at once. */
export const PAGE = 1000;

/** Answers that a client keeps, to ask for them by their tags. */
const MOST_KEPT = 100;
/** Records that a path is looked for among: those of other machines may have it too. */
const ALIKE = 10;

/** The server answered that it will not; `message` says why, in its words. */
export class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Nobody is there who knows of records: the server runs without the extension. */
export class Absence extends Refusal {}

/** A part of a list, and how long the whole is. */
export interface IPage<T> {
  items: T[];
  total: number;
}

interface IKept {
  etag: string;
  page: IPage<unknown>;
}

export interface IClientOptions {
  /** Whether it asks by itself, not because its user did something. */
  background?: boolean;
}

type Query = Record<string, string | number | boolean | undefined>;

/**
 * A client of the server.
 *
 * What is asked for again and again is asked for with the tag of the last answer, so that a server that knows it need not
 * send it twice. Every method rejects with a Refusal, or with a NetworkError when there is no server to be reached.
 */
export class AxonClient {
  readonly #settings: ServerConnection.ISettings;
  readonly #trans: TranslationBundle;
  readonly #always: Query;
  readonly #kept = new Map<string, IKept>();

  /** What a client in the background reads does not count as activity, which would keep an idle server alive. */
  constructor(
    settings: ServerConnection.ISettings,
    trans: TranslationBundle,
    { background = false }: IClientOptions = {}
  ) {
    this.#settings = settings;
    this.#trans = trans;
    this.#always = background ? { no_track_activity: 1 } : {};
  }

  /** A client of the same server with a memory of its own. */
  apart(options: IClientOptions = {}): AxonClient {
    return new AxonClient(this.#settings, this.#trans, options);
  }

  /** Keep no answer. */
  forget(): void {
    this.#kept.clear();
  }

  /** The record of the notebook file at a path of the contents API, if there is one. */
  async findByPath(path: string): Promise<INotebookSummary | undefined> {
    const { items } = await this.#list<INotebookSummary>('notebooks', { path, limit: ALIKE });
    const known = items.filter(item => item.path !== undefined);
    return known.find(item => item.path === path) ?? known[0]; // a link's target has another path
  }

  /** The record of a notebook file, made if there is none. */
  sync(path: string): Promise<INotebook> {
    return this.#send('POST', 'notebooks/sync', { path });
  }

  /** Without the outputs of its cells. */
  notebook(id: string): Promise<INotebook> {
    return this.#get(notebook(id), { outputs: false });
  }

  updateNotebook(id: string, change: INotebookChange): Promise<INotebook> {
    return this.#send('PUT', notebook(id), change);
  }

  /** Newest first. */
  checkpoints(
    id: string,
    query: { limit?: number; offset?: number; since?: string } = {}
  ): Promise<IPage<ICheckpoint>> {
    return this.#list(`${notebook(id)}/checkpoints`, query);
  }

  best(id: string, metric: string, minimize: boolean): Promise<ICheckpoint | null> {
    return this.#get(`${notebook(id)}/checkpoints/best`, { metric, minimize });
  }

  updateCheckpoint(
    id: string,
    checkpoint: string,
    change: ICheckpointChange
  ): Promise<ICheckpoint> {
    return this.#send(
      'PUT',
      `${notebook(id)}/checkpoints/${encodeURIComponent(checkpoint)}`,
      change
    );
  }

  async deleteCheckpoint(id: string, checkpoint: string): Promise<void> {
    await this.#send('DELETE', `${notebook(id)}/checkpoints/${encodeURIComponent(checkpoint)}`);
  }

  /** Where a state file is to be had. */
  stateUrl(id: string, checkpoint: string, part: 'model' | 'optimizer'): string {
    return this.#url(
      `${notebook(id)}/checkpoints/${encodeURIComponent(checkpoint)}/states/${part}`,
      {}
    );
  }

  /** The series of every run; with `since`, what is newer. */
  async metrics(id: string, since?: string): Promise<IRunSeries[]> {
    const answer = await this.#get<{ runs: IRunSeries[] }>(`${notebook(id)}/metrics`, { since });
    return answer.runs;
  }

  async runs(id: string): Promise<IRun[]> {
    return (await this.#list<IRun>(`${notebook(id)}/runs`, { limit: PAGE })).items;
  }

  /** Newest first. */
  versions(id: string, query: { limit: number; offset?: number }): Promise<IPage<IVersionSummary>> {
    return this.#list(`${notebook(id)}/versions`, query);
  }

  version(id: string, version: string): Promise<IVersion> {
    return this.#get(`${notebook(id)}/versions/${encodeURIComponent(version)}`);
  }

  /** Where a checkpoint came from. */
  provenance(id: string, checkpoint: string): Promise<IProvenance> {
    return this.#get(`${notebook(id)}/checkpoints/${encodeURIComponent(checkpoint)}/provenance`);
  }

  /** What changed from one checkpoint to another. */
  checkpointDiff(id: string, from: string, to: string): Promise<ICheckpointDiff> {
    return this.#get(`${notebook(id)}/checkpoints/diff`, { from, to });
  }

  /** What changed in the cells' sources. */
  async diff(id: string, from: string, to: string): Promise<ICellChange[]> {
    const answer = await this.#get<{ changes: ICellChange[] }>(`${notebook(id)}/diff`, {
      from,
      to
    });
    return answer.changes;
  }

  #url(path: string, query: Query): string {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
    const text = search.toString();
    return URLExt.join(this.#settings.baseUrl, 'axon', path) + (text === '' ? '' : `?${text}`);
  }

  async #get<T>(path: string, query: Query = {}): Promise<T> {
    const response = await this.#request(this.#url(path, { ...query, ...this.#always }), {});
    return this.#read(response);
  }

  async #list<T>(path: string, query: Query): Promise<IPage<T>> {
    const url = this.#url(path, { ...query, ...this.#always });
    const kept = this.#kept.get(url);
    const headers: HeadersInit = kept === undefined ? {} : { 'If-None-Match': kept.etag };
    const response = await this.#request(url, { headers });
    if (response.status === 304 && kept !== undefined) {
      this.#keep(url, kept);
      return kept.page as IPage<T>;
    }
    const items = await this.#read<T[]>(response);
    const page = { items, total: Number(response.headers.get('X-Total-Count') ?? items.length) };
    const etag = response.headers.get('ETag');
    if (etag !== null && query['since'] === undefined) {
      this.#keep(url, { etag, page });
    }
    return page;
  }

  #keep(url: string, answer: IKept): void {
    this.#kept.delete(url); // so that it is the youngest
    this.#kept.set(url, answer);
    const [oldest] = this.#kept.keys();
    if (this.#kept.size > MOST_KEPT && oldest !== undefined) {
      this.#kept.delete(oldest);
    }
  }

  async #send<T>(method: 'POST' | 'PUT' | 'DELETE', path: string, body?: object): Promise<T> {
    const response = await this.#request(this.#url(path, {}), {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) })
    });
    return response.status === 204 ? (undefined as T) : this.#read(response);
  }

  /** What was answered; a page in place of it comes from a proxy that asks to log in. */
  async #read<T>(response: Response): Promise<T> {
    try {
      return (await response.json()) as T;
    } catch (error) {
      if (error instanceof SyntaxError) {
        throw new Refusal(
          response.status,
          this.#trans.__('Something else answered in its place. Reload the page to log in again.')
        );
      }
      throw error;
    }
  }

  async #request(url: string, init: RequestInit): Promise<Response> {
    const response = await ServerConnection.makeRequest(url, init, this.#settings);
    if (!response.ok && response.status !== 304) {
      const message = await reason(response);
      if (message === undefined && response.status === 404) {
        throw new Absence(
          404,
          this.#trans.__(
            'The Jupyter server runs without the extension that keeps training records. Restart the server; if that does not help, see what `jupyter server extension list` says of jupyter_axon_notebooks.'
          )
        );
      }
      throw new Refusal(response.status, message ?? `${response.status} ${response.statusText}`);
    }
    return response;
  }
}

function notebook(id: string): string {
  return `notebooks/${encodeURIComponent(id)}`;
}

/** The server's words; none where something else answered. */
async function reason(response: Response): Promise<string | undefined> {
  try {
    const { message } = (await response.json()) as { message?: unknown };
    if (typeof message === 'string' && message !== '') {
      return message;
    }
  } catch {
    // Not JSON: from a proxy before the server, or from the server without the extension.
  }
  return undefined;
}
