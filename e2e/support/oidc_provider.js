// A real, certified provider: npm's oidc-provider, with a sign-in page of three fields that a browser clicks through.
// Goes in: people and what the directory says about them. Comes out: the issuer, and `register()` as its console.
// Never here: leniency. PKCE is required, redirect URIs match exactly, claims come as Core orders them.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';
import MemoryAdapter from 'oidc-provider/lib/adapters/memory_adapter.js';

/** The directory: what it says about a person, by the name that he signs in with. The demo's Entra has the same people. */
export const PEOPLE = {
  'ada@acme.example': { sub: 'directory-1', name: 'Ada Quill', email: 'ada@acme.example', email_verified: true },
  'mira.holt@acme.example': { sub: 'directory-2', name: 'Mira Holt', email: 'mira.holt@acme.example', email_verified: true },
  'alex@acme.example': { sub: 'directory-3', name: 'Alex Renn', preferred_username: 'alex@acme.example' }, // no mailbox
  'eve@acme.example': { sub: 'directory-4', name: 'Eve Tarn', email: 'eve@acme.example', email_verified: true },
};

/**
 * Starts a provider on a free port of 127.0.0.1. `claimsInIdToken` puts e-mail and name into the ID token; without it they
 * come from UserInfo alone, as Core 5.4 orders for the code flow.
 */
export async function startOidcProvider({ people = PEOPLE, claimsInIdToken = true } = {}) {
  const server = createServer();
  const port = await new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
  const issuer = `http://127.0.0.1:${port}`;
  const clients = new Map();
  const calls = [];

  // oidc-provider asks its adapter for clients, so one that was registered a moment ago is known at once.
  class Adapter extends MemoryAdapter {
    constructor(kind) {
      super(kind);
      this.kind = kind;
    }

    find(id) {
      return this.kind === 'Client' ? clients.get(id) : super.find(id);
    }
  }

  const provider = new Provider(issuer, {
    adapter: Adapter,
    cookies: { keys: [randomBytes(16).toString('hex')] },
    clientAuthMethods: ['client_secret_post', 'client_secret_basic'],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['name', 'preferred_username'] },
    conformIdTokenClaims: !claimsInIdToken,
    features: { devInteractions: { enabled: false } },
    findAccount: (_, sub) => {
      const person = Object.values(people).find((candidate) => candidate.sub === sub);
      return person && { accountId: sub, claims: () => person };
    },
    jwks: { keys: [{ ...generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256' }] },
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    loadExistingGrant: grantWhatIsAskedFor,
    pkce: { required: () => true },
    ttl: { Session: 86_400, Interaction: 3600, Grant: 86_400, AccessToken: 3600, IdToken: 3600 },
  });
  provider.use(async (context, next) => {
    calls.push(`${context.method} ${context.path}`);
    await (context.path.startsWith('/interaction/') ? interact(provider, people, context) : next());
  });
  const problems = [];
  provider.on('server_error', (_, error) => problems.push(error));
  server.on('request', provider.callback());

  return {
    issuer,
    /** Requests so far, as "GET /path". */
    calls,
    /** What went wrong inside the provider itself; must stay empty. */
    problems,
    /** The console: makes a client for one redirect URI. */
    register(redirectUri, { method = 'client_secret_post' } = {}) {
      const client = {
        client_id: `client-${randomBytes(6).toString('hex')}`,
        client_secret: randomBytes(24).toString('base64url'),
        redirect_uris: [redirectUri],
        grant_types: ['authorization_code'],
        response_types: ['code'],
        token_endpoint_auth_method: method,
        id_token_signed_response_alg: 'RS256',
      };
      clients.set(client.client_id, client);
      return { clientId: client.client_id, clientSecret: client.client_secret };
    },
    /** The console's "new secret": the old one stops working. */
    replaceSecret(clientId) {
      const client_secret = randomBytes(24).toString('base64url');
      clients.set(clientId, { ...clients.get(clientId), client_secret });
      return client_secret;
    },
    stop() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Nobody is asked for consent: an organization's own directory has consented for everybody. */
async function grantWhatIsAskedFor(context) {
  const { provider, session, client, params } = context.oidc;
  const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId });
  grant.addOIDCScope(params.scope);
  await grant.save();
  return grant;
}

async function interact(provider, people, context) {
  if (context.method === 'GET') {
    context.type = 'html';
    context.body = signInPage(context.path, '');
    return;
  }
  const answer = new URLSearchParams(await bodyOf(context.req));
  const person = people[answer.get('login')];
  const result = answer.has('cancel')
    ? { error: 'access_denied', error_description: 'the person cancelled' }
    : { login: { accountId: person?.sub } };
  if (result.login && !person) {
    context.type = 'html';
    context.body = signInPage(context.path, 'Nobody here has that name.');
    return;
  }
  context.redirect(await provider.interactionResult(context.req, context.res, result, { mergeWithLastSubmission: false }));
}

function signInPage(action, message) {
  return `<!doctype html><html lang="en"><title>The provider</title><h1>Sign in at the provider</h1><p role="alert">${message}</p>
<form method="post" action="${action}"><label>Name at the provider <input name="login" autofocus></label>
<button>Sign in</button> <button name="cancel" value="yes">Cancel</button></form></html>`;
}

async function bodyOf(request) {
  let text = '';
  for await (const part of request) text += part;
  return text;
}
