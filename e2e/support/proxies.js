// Every proxy that docs/gate.md shows, started with the document's own configuration; and the built-in one, which needs none.
// Goes in: where Doorward, its gate listener and the application listen. Comes out: a proxy on `port` of 127.0.0.1.
// Never here: directives for the gate. Traefik, Caddy and Envoy come from PyPI into target/tools (test.sh), the others from Debian.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { shown, substitute } from './gate_document.js';
import { startNginx } from './nginx.js';
import { ask } from './http.js';
import { start, temporaryFolder } from './processes.js';

const TOOLS = new URL('../../target/tools/', import.meta.url).pathname;

/** Name → a function that starts it. Each takes { port, doorward, gate, application, ssoHost, applicationHost }. */
export const PROXIES = {
  builtin: async () => ({ log: () => '', stop: async () => {} }),
  nginx: startNginx,
  traefik: startTraefik,
  caddy: startCaddy,
  envoy: startEnvoy,
  haproxy: startHaproxy,
};

async function startTraefik(to) {
  const folder = await temporaryFolder('traefik');
  const [own, ours] = [join(folder, 'traefik.yaml'), join(folder, 'doorward.yaml')];
  await writeFile(
    own,
    substitute(await shown('/etc/traefik/traefik.yaml'), [
      ['":443"', `"127.0.0.1:${to.port}"`],
      [/^ *tls: \{\}\n/gm, ''],
      ['/etc/traefik/doorward.yaml', ours],
    ]),
  );
  await writeFile(ours, substitute(await shown('/etc/traefik/doorward.yaml'), [...servers(to), ...hosts(to), [/^tls:\n.*\n/gm, '']]));
  return startOn(to, 'traefik', join(TOOLS, 'bin/traefik'), [`--configFile=${own}`]);
}

async function startCaddy(to) {
  const folder = await temporaryFolder('caddy');
  const file = join(folder, 'Caddyfile');
  const text = substitute(await shown('/etc/caddy/Caddyfile'), [
    ...servers(to),
    ['sso.example.com {', `http://${to.ssoHost}:${to.port} {`],
    ['hub.example.com {', `http://${to.applicationHost}:${to.port} {`],
  ]);
  await writeFile(file, `{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\tpersist_config off\n}\n${text}`);
  const env = { XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder };
  return startOn(to, 'caddy', join(TOOLS, 'bin/caddy'), ['run', '--config', file, '--adapter', 'caddyfile'], { env });
}

async function startEnvoy(to) {
  const folder = await temporaryFolder('envoy');
  const file = join(folder, 'envoy.yaml');
  const socket = (address) => `{ address: ${address.split(':')[0]}, port_value: ${address.split(':')[1]} }`;
  const text = substitute(await shown('/etc/envoy/envoy.yaml'), [
    ['{ address: 0.0.0.0, port_value: 443 }', socket(`127.0.0.1:${to.port}`)],
    [/^( *)- transport_socket:\n(\1 +.*\n)*?(?=\1 {2}filters:)\1 {2}filters:/gm, '$1- filters:'],
    ['{ address: 127.0.0.1, port_value: 8080 }', socket(to.doorward)],
    ['{ address: 127.0.0.1, port_value: 8081 }', socket(to.gate)],
    ['{ address: 127.0.0.1, port_value: 3000 }', socket(to.application)],
    ...hosts(to),
  ]);
  await writeFile(file, text);
  const args = ['-c', file, '--concurrency', '1', '--disable-hot-restart', '-l', 'warning'];
  return startOn(to, 'envoy', join(TOOLS, 'envoy/_bin/envoy'), args);
}

async function startHaproxy(to) {
  const folder = await temporaryFolder('haproxy');
  const [file, lua] = [join(folder, 'haproxy.cfg'), join(folder, 'doorward.lua')];
  await writeFile(
    file,
    substitute(await shown('/etc/haproxy/haproxy.cfg'), [
      ['bind :443 ssl crt /etc/ssl/doorward.pem', `bind 127.0.0.1:${to.port}`],
      ['X-Forwarded-Proto https', 'X-Forwarded-Proto http'],
      ['/etc/haproxy/doorward.lua', lua],
      ['127.0.0.1:8080', to.doorward],
      ['127.0.0.1:3000', to.application],
      ...hosts(to),
    ]),
  );
  await writeFile(lua, substitute(await shown('/etc/haproxy/doorward.lua'), [['127.0.0.1:8081', to.gate]]));
  return startOn(to, 'haproxy', '/usr/sbin/haproxy', ['-db', '-f', file]);
}

const servers = ({ doorward, gate, application }) => [
  ['127.0.0.1:8080', doorward],
  ['127.0.0.1:8081', gate],
  ['127.0.0.1:3000', application],
];
const hosts = ({ ssoHost, applicationHost }) => [
  ['sso.example.com', ssoHost],
  ['hub.example.com', applicationHost],
];

/** Ready once Doorward's own pages are reached through it: some listen before they have read where to. */
async function startOn({ port, ssoHost }, name, command, args, options = {}) {
  const probe = async () => (await ask(port, '/readyz', { headers: { Host: `${ssoHost}:${port}` } })).status === 200;
  const program = await start(name, command, args, { ...options, ready: { probe } });
  return { log: () => program.log(), stop: () => program.stop() };
}
