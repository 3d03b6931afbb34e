// A personal access token, from making it to the program that uses it, and its end by an admin's hand: as people click it.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ask } from '../support/http.js';
import { judgePage } from '../support/page_checks.js';
import { run } from '../support/processes.js';
import { closeAll, journey, TWO } from '../support/stage.js';
import { arrivesAt, goesOnToProvider, PRIVATE, protectedOrganization, reads, signedIn } from '../support/steps.js';

after(closeAll);

for (const which of TWO) {
  journey(test, 'a_token_from_making_it_to_the_program_that_uses_it_and_its_end', which, async (stage) => {
    const { admin } = await protectedOrganization(stage);
    const member = await signedIn(stage, 'mira');
    await member.goto(`${stage.sso}/settings/tokens`);
    await member.getByRole('link', { name: 'New token' }).first().click();
    await member.getByLabel('What is it for?').fill('nightly build');
    await member.getByLabel('At most as').selectOption('read');
    await member.getByRole('button', { name: 'Make the token' }).click();
    const token = await member.locator('#access_token').inputValue();
    assert.match(token, /^dwp_[0-9a-z]{38}$/);
    if (which === TWO[0]) await judgePage(member, 'access token, made');
    await member.getByRole('link', { name: 'I have kept it' }).click();

    const program = (authorization, options = {}) =>
      ask(stage.port, PRIVATE, { ...options, headers: { Host: `hub.localhost:${stage.port}`, Accept: '*/*', Authorization: authorization } });
    const code = ({ body }) => JSON.parse(body).code;
    // Not before its owner says so, after single sign-on.
    const refused = await program(`Bearer ${token}`);
    assert.equal(refused.status, 403);
    assert.equal(code(refused), 'token.sso_authorization_required');
    await member.goto(`${stage.hub}${PRIVATE}`);
    await goesOnToProvider(member, stage);
    await stage.console.signIn(member, 'mira.holt@acme.example');
    await arrivesAt(member, stage, PRIVATE);
    await member.goto(`${stage.sso}/settings/tokens`);
    await member.getByRole('button', { name: /^Authorise nightly build/ }).click();
    await reads(member, 'The token is authorised.');
    if (which === TWO[0]) await judgePage(member, 'access tokens, one authorised');

    const basic = `Basic ${Buffer.from(`whoever:${token}`).toString('base64')}`;
    for (const authorization of [`Bearer ${token}`, basic]) {
      const answer = await program(authorization);
      assert.equal(answer.status, 200, answer.body.slice(0, 500));
      assert.match(answer.body, /mira · read of acme/);
      assert.ok(!answer.body.includes(token), 'the application got the token');
      assert.equal((await program(authorization, { method: 'POST', body: 'a=1' })).status, 403, 'above its ceiling');
    }
    // curl, as programs do it: the address is loopback, the name is the application's.
    const by = await run('curl', 'curl', ['-sS', '-u', `mira:${token}`, '--resolve', `hub.localhost:${stage.port}:127.0.0.1`, `${stage.hub}${PRIVATE}`]);
    assert.match(by, /mira · read of acme/);

    // An admin sees it, and takes it back; felt by the next request.
    await admin.goto(`${stage.sso}/organizations/acme/settings/tokens`);
    await reads(admin, 'nightly build');
    if (which === TWO[0]) await judgePage(admin, 'access tokens of an organization, one');
    await admin.getByRole('button', { name: /^Take back/ }).click();
    await reads(admin, 'No token reaches Acme');
    assert.equal(code(await program(`Bearer ${token}`)), 'token.sso_authorization_required');
    // And the owner ends it.
    await member.reload();
    await member.getByRole('button', { name: /^Revoke/ }).click();
    await reads(member, 'The token is revoked.');
    const gone = await program(`Bearer ${token}`);
    assert.equal(gone.status, 401);
    assert.equal(code(gone), 'token.invalid');
    assert.match(gone.headers['www-authenticate'] ?? '', /^B(earer|asic)/);
  });
}
