// Debian's Chromium through Playwright, started as a closed network needs it: nothing of its own may call home.
// Goes in: options of a browser context. Comes out: contexts that record what a page asked for and what it printed.
// Never here: a browser download.
import { mkdirSync } from 'node:fs';
import { chromium } from 'playwright-core';

const SHOTS = new URL('../shots/', import.meta.url).pathname;
const QUIET = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

let launched;
const more = [];

/** Adds flags for Chromium (names of hosts, a certificate to believe). Before the first person comes. */
export function flagBrowser(...flags) {
  if (launched) throw new Error('the browser runs already');
  more.push(...flags);
}

/** The one browser of this test process. Contexts are what keeps people apart. */
async function browser() {
  launched ??= chromium.launch({ executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium', headless: true, args: [...QUIET, ...more] });
  return launched;
}

/** A fresh profile: one person at one computer. Every step of his waits at most 15 seconds. */
export async function newPerson(options = {}) {
  const context = await (await browser()).newContext({ locale: 'en-GB', ...options });
  context.setDefaultTimeout(15_000);
  context.problems = [];
  context.on('weberror', (error) => context.problems.push(`${error.error()}`));
  context.on('console', (message) => {
    // Chromium reports every 4xx answer as an error; those are looked at as answers. And the npm provider's own error
    // page asks for a font from afar, which is not our page's doing.
    const { hostname } = new URL(message.location().url || 'http://localhost');
    const isLocal = hostname === '127.0.0.1' || hostname === 'localhost' || hostname.endsWith('.localhost');
    if (message.type() === 'error' && isLocal && !/the server responded with a status of/.test(message.text())) context.problems.push(message.text());
  });
  return context;
}

/** Keeps a picture for people to look at: `e2e/shots/NAME.png`. */
export async function shoot(page, name) {
  mkdirSync(SHOTS, { recursive: true });
  await page.screenshot({ path: `${SHOTS}${name.replaceAll(/[^A-Za-z0-9._-]+/g, '-')}.png`, fullPage: true });
}

/** Closes the browser, if one was started. */
export async function closeBrowser() {
  await (await launched)?.close();
  launched = undefined;
}
