// Certificates for tests over https.
// Goes in: the hosts. Comes out: files, as operators have them: the certificate with its key, the key, the authority.
// Never here: anything that outlives a test.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run, temporaryFolder } from './processes.js';

/** An authority, and a certificate of it for these hosts, in a folder whose name has a blank. */
export async function makeCertificates(hosts) {
  const folder = join(await temporaryFolder('certificates', { forEverybody: true }), 'my certificates');
  await mkdir(folder);
  const file = (name) => join(folder, name);
  const openssl = (args) => run('openssl', 'openssl', args);
  const fresh = (name) => ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', file(name)];
  await openssl(['req', '-x509', ...fresh('authority.key'), '-out', file('authority.pem'), '-days', '2', '-subj', '/CN=authority of the tests']);
  await openssl(['req', ...fresh('own.key'), '-out', file('own.csr'), '-subj', '/CN=localhost']);
  await writeFile(file('own.cnf'), `subjectAltName = ${hosts.map((host) => `DNS:${host}`).join(', ')}\nbasicConstraints = CA:FALSE\n`);
  await openssl(['x509', '-req', '-in', file('own.csr'), '-CA', file('authority.pem'), '-CAkey', file('authority.key'), '-CAcreateserial', '-days', '2', '-extfile', file('own.cnf'), '-out', file('own.pem')]);
  await writeFile(file('both.pem'), (await readFile(file('own.pem'), 'utf8')) + (await readFile(file('own.key'), 'utf8')), { mode: 0o644 });
  return { authority: file('authority.pem'), both: file('both.pem'), key: file('own.key') };
}
