// A proxy with the configuration that `doorward proxy-config` makes of a Doorward's own, over https, changed by nobody.
// Goes in: what the command printed. Comes out: the running proxy. A test of what goes wrong changes the files in between.
// Never here: directives for the gate. Only paths of files are others than on an operator's machine.
import { mkdir, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { basename, join } from 'node:path';
import { run, start, temporaryFolder } from './processes.js';

const TOOLS = new URL('../../target/tools/', import.meta.url).pathname;

/** What this Doorward's `proxy-config` prints for its application `hub`, by the names of the files: { 'ask.conf': text, … }. */
export async function makeProxy(doorward, proxy, upstream, { both, key }) {
  // HAProxy wants certificate and key in one file; that file does for the others' certificate too.
  const keys = proxy === 'haproxy' ? [] : ['--key', key];
  const printed = await doorward.cli(['proxy-config', proxy, '--upstream', `hub=${upstream}`, '--certificate', both, ...keys]);
  const parts = printed.split(/^(?=(?:#|--) \/etc\/\S+$)/m);
  return Object.fromEntries(parts.map((text) => [basename(text.split('\n', 1)[0]), text]));
}

/** Starts the proxy of that kind over these files. Ready once Doorward answers through it, on this host. */
export async function startMade(proxy, files, port, host = 'localhost') {
  const folder = await temporaryFolder(`made-${proxy}`, { forEverybody: true });
  for (const [name, text] of Object.entries(files)) {
    // The folders of an operator's machine become this one.
    await writeFile(join(folder, name), text.replaceAll(/\/etc\/(nginx\/doorward|nginx\/conf\.d|traefik|haproxy)\//g, `${folder}/`));
  }
  const programs = { nginx, traefik, caddy, envoy, haproxy };
  const [command, args, env] = await programs[proxy](folder, files);
  const probe = async () => (await ready(port, host)) === 200;
  return start(proxy, command, args, { env, ready: { probe }, timeoutMs: 20_000 });
}

async function nginx(folder) {
  await mkdir(join(folder, 'tmp'));
  const temporaryPaths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/tmp/${kind};`);
  const whole = join(folder, 'nginx.conf');
  const own = `daemon off; worker_processes 1; pid ${folder}/nginx.pid; error_log stderr warn; events { worker_connections 512; }`;
  await writeFile(whole, `${own}\nhttp {\naccess_log off;\n${temporaryPaths.join('\n')}\ninclude ${folder}/doorward.conf;\n}\n`);
  const args = ['-c', whole, '-p', folder, '-e', 'stderr'];
  await run('nginx -t', 'nginx', ['-t', ...args]);
  return ['nginx', args];
}

const traefik = (folder) => [join(TOOLS, 'bin/traefik'), [`--configFile=${folder}/traefik.yaml`]];

async function caddy(folder, files) {
  // Port 80 is not ours to take, nor is anything outside of the folder.
  const own = '{\n\tadmin off\n\tpersist_config off\n\tauto_https disable_redirects\n}\n';
  await writeFile(join(folder, 'Caddyfile'), own + files.Caddyfile);
  const env = { XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder };
  return [join(TOOLS, 'bin/caddy'), ['run', '--config', join(folder, 'Caddyfile'), '--adapter', 'caddyfile'], env];
}

const envoy = (folder) => [
  join(TOOLS, 'envoy/_bin/envoy'),
  ['-c', join(folder, 'envoy.yaml'), '--concurrency', '1', '--disable-hot-restart', '-l', 'warning'],
];

const haproxy = (folder) => ['/usr/sbin/haproxy', ['-db', '-f', join(folder, 'haproxy.cfg')]];

function ready(port, host) {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path: '/readyz', servername: host, headers: { Host: `${host}:${port}` }, rejectUnauthorized: false, agent: false };
    request(options, (answer) => answer.resume().on('end', () => resolve(answer.statusCode)))
      .on('error', reject)
      .end();
  });
}
