// A first link that an admin decides on, and recovery codes from Enable to their use (rule 12), as people click them.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { judgePage } from '../support/page_checks.js';
import { closeAll, journey, TWO } from '../support/stage.js';
import { arrivesAt, goesOnToProvider, openSettings, PRIVATE, protectedOrganization, reads, signedIn } from '../support/steps.js';

after(closeAll);
const [which] = TWO;

journey(test, 'a_member_with_another_address_asks_an_admin_and_is_in_after_the_approval', which, async (stage) => {
  const { admin } = await protectedOrganization(stage);
  // The account alex, signed in at the provider as somebody whose address is not alex's here.
  const member = await signedIn(stage, 'alex');
  await member.goto(`${stage.hub}${PRIVATE}`);
  await goesOnToProvider(member, stage);
  await stage.console.signIn(member, 'eve@acme.example');
  await member.getByRole('heading', { name: 'Is this you?' }).waitFor();
  await reads(member, 'eve@acme.example');
  await judgePage(member, 'is this you');
  await member.getByRole('button', { name: 'Ask an admin to approve' }).click();
  await member.getByRole('heading', { name: 'An admin is asked' }).waitFor();
  await judgePage(member, 'an admin is asked');
  member.context().problems.length = 0; // the question came with a 403, which Chromium writes into the console

  await openSettings(admin, stage);
  await admin.getByRole('link', { name: 'Decide on the members page' }).click();
  await reads(admin, 'Is this the same person?');
  await judgePage(admin, 'link request');
  await admin.getByRole('button', { name: 'Approve the link of alex' }).click();
  await reads(admin, 'The link is made.');
  await reads(admin, 'approved by ada');

  await member.getByRole('link', { name: 'Complete single sign-on' }).click();
  await arrivesAt(member, stage, PRIVATE);
});

journey(test, 's10_a_recovery_code_of_enable_switches_off_a_provider_that_is_gone', which, async (stage) => {
  const { codes } = await protectedOrganization(stage, { onCodes: (page) => judgePage(page, 'recovery codes') });
  assert.equal(codes.length, 10);
  const admin = await signedIn(stage, 'ada');
  await openSettings(admin, stage);
  await reads(admin, 'you can replace the client secret here, and nothing else');
  await judgePage(admin, 'sso without sso');
  await admin.getByRole('link', { name: 'Use a recovery code' }).click();
  await admin.getByLabel('Recovery code').waitFor();
  await judgePage(admin, 'recover');
  await admin.getByLabel('Recovery code').fill(codes[4].toLowerCase());
  await admin.getByRole('button', { name: 'Use the code' }).click();
  await reads(admin, 'The recovery code is used.');
  await reads(admin, '9 of 10');
  await admin.getByRole('button', { name: 'Disable', exact: true }).click();
  await admin.getByRole('button', { name: 'Disable', exact: true }).waitFor({ state: 'detached' });
});
