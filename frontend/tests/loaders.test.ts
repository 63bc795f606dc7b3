import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { AxonClient } from '../src/api.ts';
import { ReproducibilityLoader } from '../src/page/reproducibility.ts';
import type { IRunReproducibility } from '../src/records.ts';
import { SeriesLoader } from '../src/series.ts';

/** A server whose responses are sent when the test says so. */
class Server {
  readonly requests: string[][] = [];
  #respond: (() => void)[] = [];

  /** Respond to all requests so far, and wait until the responses are processed. */
  async respond(): Promise<void> {
    const pending = this.#respond;
    this.#respond = [];
    for (const respond of pending) {
      respond();
    }
    await new Promise(resolve => setImmediate(resolve));
  }

  get client(): AxonClient {
    const respond = <T>(ids: readonly string[], create: (id: string) => T): Promise<T[]> => {
      this.requests.push([...ids]);
      return new Promise(resolve => this.#respond.push(() => resolve(ids.map(create))));
    };
    const series = { step: [1], value: [1], time: [1] };
    return {
      series: async (ids: readonly string[]) =>
        Object.fromEntries(await respond(ids, id => [id, { loss: series }] as const)),
      reproducibility: (ids: readonly string[], baseOf: (id: string) => string | undefined) =>
        respond(ids, (id): IRunReproducibility => {
          const code = baseOf(id) === id ? 'same' : 'different';
          return { run_id: id, notebook_id: 'nb', flags: [], code };
        })
    } as unknown as AxonClient;
  }
}

test('series of runs that are no longer wanted are forgotten, also if they arrive later', async () => {
  const server = new Server();
  const loader = new SeriesLoader(server.client, () => 1);
  loader.want(['a', 'b'], ['loss']);
  loader.want(['b'], ['loss']);
  await server.respond();
  assert.deepEqual(Object.keys(loader.series), ['b']);
  assert.equal(loader.isLoaded, true);
  loader.want([], []);
  assert.deepEqual(loader.series, {});
  loader.want(['a'], ['loss']);
  assert.equal(loader.isLoaded, false);
  loader.clear();
  await server.respond();
  assert.deepEqual(loader.series, {});
});

test('only runs that have changed are loaded again', async () => {
  const server = new Server();
  const states = new Map([
    ['a', 1],
    ['b', 1]
  ]);
  const loader = new SeriesLoader(server.client, run => states.get(run));
  loader.want(['a', 'b', 'unknown'], ['loss']);
  await server.respond();
  const before = loader.series;
  await loader.load();
  states.set('b', 2);
  void loader.load();
  await server.respond();
  assert.deepEqual(server.requests, [['a', 'b'], ['b']]);
  assert.equal(loader.series['a'], before['a']);
});

test('code that was compared with another run than now is unknown, and compared again at once', async () => {
  const server = new Server();
  let base = 'best';
  const source = { has: () => true, baseOf: () => base, changeCount: () => 1 };
  const loader = new ReproducibilityLoader(server.client, source, () => undefined);
  void loader.load(['best', 'other']);
  await server.respond();
  assert.deepEqual([loader.get('best')?.code, loader.get('other')?.code], ['same', 'different']);
  base = 'other';
  assert.deepEqual(loader.get('best'), { run_id: 'best', notebook_id: 'nb', flags: [] });
  void loader.load(['best', 'other']);
  await server.respond();
  assert.deepEqual([loader.get('best')?.code, loader.get('other')?.code], ['different', 'same']);
  assert.equal(server.requests.length, 2);
});
