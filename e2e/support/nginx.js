// Debian's nginx in front, with the configuration of docs/gate.md word for word.
// Goes in: where Doorward, its gate listener and the application listen. Comes out: the port that browsers use.
// Never here: directives for the gate; whatever is missing in the document must fail the journeys.
import { writeFile, mkdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { basename, join } from 'node:path';
import { shown, substitute } from './gate_document.js';
import { run, start, temporaryFolder } from './processes.js';

/** Writes the document's three files into `folder`, with this test's hosts and ports in the place of the document's. Returns the first. */
async function gateConfiguration(folder, { port, doorward, gate, application, ssoHost, applicationHost }) {
  const files = {
    'conf.d/doorward.conf': [
      ['127.0.0.1:8080', doorward],
      ['127.0.0.1:8081', gate],
      ['127.0.0.1:3000', application],
      ['listen 443 ssl;', `listen 127.0.0.1:${port};`],
      [/^ *ssl_certificate(_key)? .*\n/gm, ''],
      ['server_name sso.example.com', `server_name ${ssoHost}`],
      ['server_name hub.example.com', `server_name ${applicationHost}`],
      [/(Host +)sso\.example\.com/g, `$1${ssoHost}:${port}`],
      ['$doorward_host hub.example.com', `$doorward_host ${applicationHost}:${port}`],
      ['/etc/nginx/doorward/', `${folder}/`],
    ],
    'doorward/host.conf': [['https://$doorward_host', 'http://$doorward_host']],
    'doorward/ask.conf': [],
  };
  for (const [file, replacements] of Object.entries(files)) {
    await writeFile(join(folder, basename(file)), substitute(await shown(`/etc/nginx/${file}`), replacements));
  }
  return join(folder, 'doorward.conf');
}

/** Starts nginx on `port` of 127.0.0.1. */
export async function startNginx(addresses) {
  const folder = await temporaryFolder('nginx', { forEverybody: true });
  await mkdir(join(folder, 'tmp'));
  const temporaryPaths = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${folder}/tmp/${kind};`);
  const configuration = join(folder, 'nginx.conf');
  await writeFile(
    configuration,
    `daemon off;
worker_processes 1;
pid ${folder}/nginx.pid;
error_log stderr warn;
events { worker_connections 512; }
http {
access_log off;
${temporaryPaths.join('\n')}
include ${await gateConfiguration(folder, addresses)};
}
`,
  );
  const args = ['-c', configuration, '-p', folder, '-e', 'stderr'];
  await run('nginx -t', 'nginx', ['-t', ...args]);
  const program = await start('nginx', 'nginx', args, { ready: { probe: () => accepts(addresses.port) } });
  return { port: addresses.port, stop: () => program.stop({ signal: 'SIGQUIT' }), log: () => program.log() };
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.end(() => resolve(true)));
    socket.once('error', () => resolve(false));
  });
}
