// The configurations that docs/gate.md shows, word for word, with a test's addresses in the place of the document's.
// Goes in: which block. Comes out: its text. Invariant: a replacement that finds nothing is an error, so that the document
// can't drift away from its tests.
import { readFile } from 'node:fs/promises';

const DOCUMENT = new URL('../../docs/gate.md', import.meta.url);

/** The block that shows this file: its first line names it in a comment. */
export async function shown(file) {
  const document = await readFile(DOCUMENT, 'utf8');
  const blocks = [...document.matchAll(/^```(\S*)\n([\s\S]*?)^```/gm)].map(([, , text]) => text);
  const found = blocks.filter((text) => text.split('\n', 1)[0].endsWith(` ${file}`));
  if (found.length !== 1) throw new Error(`docs/gate.md shows ${file} ${found.length} times`);
  return found[0];
}

/** Replaces each `from` (text or a pattern with the flag g) everywhere. */
export function substitute(text, replacements) {
  return replacements.reduce((result, [from, to]) => {
    const replaced = result.replaceAll(from, to);
    if (replaced === result) throw new Error(`docs/gate.md no longer contains ${from}: mend its test`);
    return replaced;
  }, text);
}
