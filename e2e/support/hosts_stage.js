// Doorward with an application that has a host for each organization, and its own host among them, over https behind each proxy
// by turns, all on one store. The proxy's configuration is what `doorward proxy-config` makes, letter by letter.
// Goes in: a proxy's name, the port of an application. Comes out: the port in front, and mira's cookies on two hosts.
// Never here: what is asked. mira is a member of acme (write) and of globex (read), neither with single sign-on.
import { makeCertificates } from './certificates.js';
import { prepareDoorward } from './doorward.js';
import { makeProxy, startMade } from './made_proxy.js';
import { freePort } from './processes.js';
import { populate } from './stage.js';
import { walkIn } from './visitor.js';

/** What stands behind the label of every host. */
export const BEHIND = 'apps.localhost';
/** Doorward's own host: it looks like an organization's. */
export const OWN = `sso.${BEHIND}`;
/** As a whole organization's host is the organization's, its paths have no organization in them. */
export const PATTERNS = ['/{resource}/**', '/**'];

/** Makes the store and the people. */
export async function openHosts() {
  const certificates = await makeCertificates([`*.${BEHIND}`]);
  const first = await prepareDoorward({
    baseUrl: `https://${OWN}:1`, listen: '127.0.0.1:1', gateListen: '127.0.0.1:2', allow: [], app: { host: `{org}.${BEHIND}:1`, organization: PATTERNS },
  });
  await populate(first, {});

  /** Doorward on addresses of its own behind `proxy`, in front of the application on that port; the cookies, and mira's way to acme's. */
  return async (proxy, application) => {
    const [port, behind, gatePort] = [await freePort(), await freePort(), await freePort()];
    const upstream = `http://127.0.0.1:${application}`;
    const builtin = proxy === 'builtin' && { upstream, tls: { certificate: certificates.both, key: certificates.key } };
    const doorward = await prepareDoorward({
      baseUrl: `https://${OWN}:${port}`, listen: `127.0.0.1:${builtin ? port : behind}`, gateListen: `127.0.0.1:${gatePort}`, allow: [], beside: first,
      app: { host: `{org}.${BEHIND}:${port}`, upstream: builtin.upstream, organization: PATTERNS }, tls: builtin.tls,
    });
    await doorward.serve();
    const front = !builtin && (await startMade(proxy, await makeProxy(doorward, proxy, upstream, certificates), port, OWN));
    const walk = await walkIn(port, `https://acme.${BEHIND}:${port}`, 'mira');
    const cookies = { 'mira at acme': walk.cookie, 'mira at globex': (await walkIn(port, `https://globex.${BEHIND}:${port}`, 'mira')).cookie };
    const close = async () => {
      if (front) await front.stop();
      await doorward.stop();
    };
    return { port, cookies, way: walk.way, close };
  };
}
