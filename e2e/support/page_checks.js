// What every page must be like for people: nothing for axe to find, light and dark, and no sideways scrolling at 320 px.
// Goes in: a page that shows what is to be judged. Comes out: the same page, and pictures of it in e2e/shots/.
// Never here: what the page says.
import assert from 'node:assert/strict';
import { AxeBuilder } from '@axe-core/playwright';
import { shoot } from './browser.js';

const USUAL = { width: 1280, height: 720 };
const NARROW = { width: 320, height: 640 };

/** Judges the page that is open; `name` is for the pictures. */
export async function judgePage(page, name) {
  for (const colorScheme of ['light', 'dark']) {
    await page.emulateMedia({ colorScheme });
    await shoot(page, `page-${name}-${colorScheme}`);
    const { violations } = await new AxeBuilder({ page }).analyze();
    const found = violations.map(({ id, help, nodes }) => `${id}: ${help}\n    ${nodes.map((node) => node.html).join('\n    ')}`);
    assert.deepEqual(found, [], `${colorScheme}: ${page.url()}`);
  }
  await page.setViewportSize(NARROW);
  await shoot(page, `page-${name}-320`);
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
  assert.ok(content <= window, `${name}: content is ${content} px wide in ${window} px`);
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize(USUAL);
}
