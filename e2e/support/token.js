// Personal access tokens written as Doorward writes them (crates/core/src/access_token.rs), for what needs one and no page.
// Goes in: a number. Comes out: a token with the right checksum; the same for the same number.
import { createHash } from 'node:crypto';

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';

export function tokenOf(number) {
  const signed = `dwp_${String(number).padStart(32, '0')}`;
  let bits = createHash('sha256').update(signed).digest().readUInt32BE(0);
  let check = '';
  for (let place = 0; place < 6; place += 1, bits = Math.floor(bits / 32)) check += ALPHABET[bits % 32];
  return signed + check;
}

/** What the store keeps of it. */
export const hashOf = (token) => createHash('sha256').update(token).digest('base64url');
