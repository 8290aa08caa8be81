// An OpenID Connect provider over https, which approves whatever is asked of the person. Lines of JSON come on stdin:
// first {certFile, keyFile, audience, scope, client: {id, secret}, keys: [name]}, then one command after the other,
//   {"token": "app"}                     a token of the client itself
//   {"token": "user", "user": "anna"}    one of a person, by the authorization code flow
//   {"keys": ["k2", "k1"]}               from now on these keys are published, and the first one signs
// each answered by a line: {"issuer"}, {"token"}, {}.
import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:https";
import { createRequire } from "node:module";
import { once } from "node:events";
import path from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

// Answers alone go to stdout; the provider's notices are for people.
console.log = console.info = console.warn = console.error;
// The packages are where this was started, not beside this file.
const packages = createRequire(path.join(process.cwd(), "package.json"));
const { Provider } = await import(pathToFileURL(packages.resolve("oidc-provider")));

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const plan = JSON.parse((await lines.next()).value);
const { audience, scope, client } = plan;
const redirectUri = "https://app.example/signed-in";
const made = new Map();
let provider;

function key(name) {
  if (!made.has(name)) {
    const jwk = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });
    made.set(name, { ...jwk, kid: name, use: "sig", alg: "RS256" });
  }
  return made.get(name);
}

function sign(names) {
  const lasts = 600;
  provider = new Provider(issuer, {
    clients: [
      {
        client_id: client.id,
        client_secret: client.secret,
        grant_types: ["client_credentials", "authorization_code"],
        redirect_uris: [redirectUri],
      },
    ],
    jwks: { keys: names.map(key) },
    cookies: { keys: ["of a test"] },
    ttl: { AccessToken: lasts, ClientCredentials: lasts, AuthorizationCode: 60, Grant: lasts, Interaction: 60, Session: lasts, IdToken: lasts },
    findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
    interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({ scope, audience, accessTokenFormat: "jwt", jwt: { sign: { alg: "RS256" } } }),
      },
    },
  });
}

async function approve(request, response) {
  const { prompt, params, session } = await provider.interactionDetails(request, response);
  if (prompt.name === "login") {
    return provider.interactionFinished(request, response, { login: { accountId: params.login_hint } });
  }
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope("openid");
  grant.addResourceScope(audience, scope);
  return provider.interactionFinished(request, response, { consent: { grantId: await grant.save() } });
}

async function exchange(fields) {
  const authorization = `Basic ${Buffer.from(`${client.id}:${client.secret}`).toString("base64")}`;
  const answer = await fetch(`${issuer}/token`, { method: "POST", headers: { authorization }, body: new URLSearchParams(fields) });
  const body = await answer.json();
  if (!answer.ok) throw new Error(JSON.stringify(body));
  return { token: body.access_token };
}

/** What a browser does: follows each redirect with its cookies, until the app's address comes with the code. */
async function signIn(user) {
  const cookies = new Map();
  const asked = { client_id: client.id, response_type: "code", redirect_uri: redirectUri, scope: `openid ${scope}`, resource: audience, login_hint: user };
  let url = `${issuer}/auth?${new URLSearchParams(asked)}`;
  while (!url.startsWith(redirectUri)) {
    const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join("; ");
    const answer = await fetch(url, { redirect: "manual", headers: { cookie } });
    for (const set of answer.headers.getSetCookie()) {
      const [, name, value] = /^([^=]+)=([^;]*)/.exec(set);
      cookies.set(name, value);
    }
    const next = answer.headers.get("location");
    if (next === null) throw new Error(`${answer.status}: ${await answer.text()}`);
    url = new URL(next, url).href;
  }
  const code = new URL(url).searchParams.get("code");
  if (code === null) throw new Error(url);
  return exchange({ grant_type: "authorization_code", code, redirect_uri: redirectUri, resource: audience });
}

const server = createServer({ cert: readFileSync(plan.certFile), key: readFileSync(plan.keyFile) }, (request, response) => {
  if (!request.url.startsWith("/interaction/")) return provider.callback()(request, response);
  return approve(request, response).catch((error) => response.writeHead(500).end(String(error)));
});
server.listen(0, "127.0.0.1");
await once(server, "listening");
const issuer = `https://localhost:${server.address().port}`;
sign(plan.keys);

function answer(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

answer({ issuer });
for await (const line of lines) {
  const command = JSON.parse(line);
  if (command.keys !== undefined) {
    sign(command.keys);
    answer({});
  } else if (command.token === "app") {
    answer(await exchange({ grant_type: "client_credentials", resource: audience }));
  } else {
    answer(await signIn(command.user));
  }
}
server.close();
server.closeAllConnections();
