// The private cluster by itself: it starts, keeps databases apart, and stops.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startPostgres } from './postgres.js';
import { stopEverything } from './processes.js';

after(stopEverything);

test('a cluster starts, keeps its databases apart and stops', async () => {
  const cluster = await startPostgres();
  const [one, two] = [await cluster.newDatabase(), await cluster.newDatabase()];
  await one.sql('CREATE TABLE t (n BIGINT); INSERT INTO t VALUES (7)');
  assert.equal((await one.sql('SELECT n FROM t')).trim(), '7');
  await assert.rejects(two.sql('SELECT n FROM t'), /relation "t" does not exist/);
  assert.match(one.url, /^postgres:\/\/postgres@127\.0\.0\.1:\d+\/doorward_e2e_1$/);
  await cluster.stop();
  await assert.rejects(cluster.psql('SELECT 1'), /Connection refused/);
});
