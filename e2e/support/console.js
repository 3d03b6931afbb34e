// The identity provider's side of a journey: its console, where an application is registered, and its sign-in page.
// Goes in: which provider. Comes out: `register()` and `signIn()`, the same words for both.
// Never here: Doorward's pages.
import { startDemo } from './doorward.js';
import { startOidcProvider } from './oidc_provider.js';

/** Starts the provider of that name. */
export function openConsole(provider) {
  return provider === 'entra' ? openEntra() : openCertified();
}

async function openCertified() {
  const provider = await startOidcProvider();
  return {
    kind: 'oidc-provider',
    address: provider.issuer,
    provider,
    /** Makes an application with this redirect URI; returns what is to be pasted at Doorward. */
    async register(_, redirectUri) {
      return { ...provider.register(redirectUri), issuerUrl: provider.issuer };
    },
    async newSecret(_, application) {
      return provider.replaceSecret(application.clientId);
    },
    /** From the provider's sign-in page back to Doorward. */
    async signIn(page, address) {
      await page.getByLabel('Name at the provider').fill(address);
      await page.getByRole('button', { name: 'Sign in' }).click();
    },
    /** This provider remembers the person of a browser, and lets him straight through. */
    async signInAgain() {},
    async cancel(page) {
      await page.getByRole('button', { name: 'Cancel' }).click();
    },
    stop: () => provider.stop(),
  };
}

/** The demo's Entra-shaped provider: its console is clicked as the guide says, every time. */
async function openEntra() {
  const demo = await startDemo('entra');
  const address = demo.base_url;
  const registrations = new Map(); // client id → address of the registration's overview
  return {
    kind: 'entra',
    address,
    async register(page, redirectUri) {
      await page.goto(address);
      const side = page.getByRole('navigation', { name: 'Console' });
      await side.getByRole('link', { name: 'Enterprise applications' }).click();
      await page.getByRole('link', { name: 'New application' }).click();
      await page.getByRole('link', { name: 'Create your own application' }).click();
      await page.getByLabel("What's the name of your app?").fill('The hub');
      await page.getByLabel("Register an application to integrate with Microsoft Entra ID (App you're developing)").check();
      await page.getByRole('button', { name: 'Create' }).click();
      await page.getByLabel('Platform').selectOption({ label: 'Web' });
      await page.getByLabel('Redirect URI', { exact: true }).fill(redirectUri);
      await page.getByRole('button', { name: 'Register' }).click();

      // The registration is reached from the enterprise application, as the guide goes.
      await side.getByRole('link', { name: 'Enterprise applications' }).click();
      await page.getByRole('link', { name: 'The hub' }).last().click();
      await side.getByRole('link', { name: 'Users and groups' }).click();
      await page.getByRole('button', { name: 'Assign Mira Holt' }).click();
      await side.getByRole('link', { name: 'Single sign-on' }).click();
      await page.getByRole('link', { name: 'Go to application' }).click();
      const clientId = await page.getByLabel('Application (client) ID', { exact: true }).inputValue();
      registrations.set(clientId, page.url());
      await side.getByRole('link', { name: 'Endpoints' }).click();
      const issuerUrl = await page.getByLabel('OpenID Connect metadata document', { exact: true }).inputValue();
      const clientSecret = await addSecret(page, side);
      await side.getByRole('link', { name: 'API permissions' }).click();
      await page.getByRole('button', { name: /^Grant admin consent/ }).click();
      await page.getByText(/^Granted for/).waitFor();
      return { clientId, clientSecret, issuerUrl };
    },
    async newSecret(page, { clientId }) {
      await page.goto(registrations.get(clientId));
      const side = page.getByRole('navigation', { name: 'Console' });
      await side.getByRole('link', { name: 'Certificates & secrets' }).click();
      await page.getByRole('button', { name: /^Delete secret/ }).click();
      return addSecret(page, side);
    },
    async signIn(page, person) {
      await page.getByRole('button', { name: person }).click();
    },
    /** This provider asks who it is every time. */
    async signInAgain(page, person) {
      await this.signIn(page, person);
    },
    async cancel(page) {
      await page.getByRole('button', { name: 'Cancel' }).click();
    },
    stop: () => demo.stop(),
  };
}

async function addSecret(page, side) {
  await side.getByRole('link', { name: 'Certificates & secrets' }).click();
  await page.getByLabel('Description').fill('for the hub');
  await page.getByRole('button', { name: 'Add', exact: true }).click();
  return page.getByLabel('Value', { exact: true }).inputValue();
}
