// Doorward behind each proxy by turns, all on one store, with people who signed in through it: for requests without a browser.
// Goes in: a proxy's name, the port of an application. Comes out: the port in front, and the people's cookies.
// Never here: what is asked. mira (write in acme, read in globex) has completed acme's single sign-on; the others have not.
import { createHash } from 'node:crypto';
import { prepareDoorward } from './doorward.js';
import { startOidcProvider } from './oidc_provider.js';
import { allLogs, freePort } from './processes.js';
import { PROXIES } from './proxies.js';
import { populate } from './stage.js';
import { ask } from './http.js';
import { TOKENS } from './gate_cases.js';
import { hashOf } from './token.js';
import { signInThrough } from './visitor.js';

/** The application's host, without its port. */
export const HOST = 'hub.localhost';

/** Makes the store, the people, and a provider whose connection is live and enforced in acme. */
export async function openHouse() {
  const provider = await startOidcProvider();
  const allow = [new URL(provider.issuer).host];
  const first = await prepareDoorward({
    baseUrl: 'http://localhost:1', listen: '127.0.0.1:1', gateListen: '127.0.0.1:2', allow, app: { host: `${HOST}:1` },
  });
  await populate(first, {});
  await first.cli(['sso', 'set', 'acme', '--issuer-url', provider.issuer, '--client-id', 'hub', '--client-secret-stdin'], 'a client secret\n');
  await first.cli(['sso', 'enable', 'acme', '--untested']);

  /** Doorward on addresses of its own behind `proxy`, in front of the application on that port; and the cookies. `more`: of its configuration. */
  const open = async (proxy, application, more = {}) => {
    const [port, behind, gatePort] = [await freePort(), await freePort(), await freePort()];
    const [listen, gate] = [`127.0.0.1:${proxy === 'builtin' ? port : behind}`, `127.0.0.1:${gatePort}`];
    const doorward = await prepareDoorward({
      baseUrl: `http://localhost:${port}`, listen, gateListen: gate, allow, beside: first,
      app: { host: `${HOST}:${port}`, upstream: proxy === 'builtin' ? `http://127.0.0.1:${application}` : undefined, ...more },
    });
    await doorward.serve();
    const front = await PROXIES[proxy]({ port, doorward: listen, gate, application: `127.0.0.1:${application}`, ssoHost: 'localhost', applicationHost: HOST });
    const signIn = (name) => signInThrough(port, `http://${HOST}:${port}`, name);
    const cookies = { mira: await signIn('mira'), alex: await signIn('alex'), eve: await signIn('eve'), expired: 'B'.repeat(43) };
    const token = createHash('sha256').update(cookies.mira).digest('base64url');
    await doorward.sqlChange(`INSERT INTO sso_session (session_id, organization_id, epoch, issuer, subject, authenticated_at)
      SELECT host_session.session_id, connection.organization_id, connection.epoch, '${provider.issuer}', 'directory-2', ${Date.now()}
      FROM host_session, connection WHERE host_session.token_hash = '${token}'`);
    await giveTokens(doorward);
    await untilComplete(port, cookies.mira);
    return { port, cookies, sqlChange: doorward.sqlChange, stopDoorward: () => doorward.stop(), close: async () => { await front.stop(); await doorward.stop(); } };
  };
  return { open, close: () => provider.stop() };
}

/** mira's token is authorised for acme, and writes nothing; alex's is not authorised. */
async function giveTokens({ sqlChange }) {
  await sqlChange(`UPDATE membership SET last_sso_at = ${Date.now()}, last_sso_epoch = (SELECT epoch FROM connection
    WHERE connection.organization_id = membership.organization_id)
    WHERE account_id = (SELECT id FROM account WHERE name_key = 'mira')`);
  for (const [place, [name, token]] of Object.entries(TOKENS).entries()) {
    await sqlChange(`INSERT INTO access_token (id, token_hash, account_id, name, ceiling, created_at, expires_at)
      SELECT '00000000-0000-7000-8000-00000000000${place}', '${hashOf(token)}', id, 'e2e', 'read', ${Date.now()}, ${Date.now() + 3_600_000}
      FROM account WHERE name_key = '${name}' ON CONFLICT DO NOTHING`);
  }
  await sqlChange(`INSERT INTO token_authorization (token_id, organization_id, epoch, authorized_at)
    SELECT access_token.id, connection.organization_id, connection.epoch, ${Date.now()} FROM access_token, connection
    WHERE access_token.token_hash = '${hashOf(TOKENS.mira)}' ON CONFLICT DO NOTHING`);
}

/** Until the node has read the change that made mira's SSO session: it does so every 250 ms. */
async function untilComplete(port, mira) {
  const until = Date.now() + 10_000;
  for (;;) {
    const answer = await ask(port, '/acme/secret', { headers: { Host: `${HOST}:${port}`, Cookie: `doorward-app=${mira}` } });
    if (answer.status === 200) return;
    if (Date.now() > until) throw new Error(`mira's SSO session does not count: ${answer.status}\n${answer.body}\n${allLogs()}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
