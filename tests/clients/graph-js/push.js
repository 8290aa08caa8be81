// Posts the notifications of a plan (JSON on stdin) by Microsoft's own clients, the Azure identity library and the Graph
// client, unchanged but for the addresses; writes one line of JSON for each: what the client made of it.
'use strict';
const fs = require('fs');
const { createRequire } = require('module');
// The script stays in the source tree; the packages are wherever they were installed.
const installed = createRequire(`${process.cwd()}/`);
const { ClientSecretCredential } = installed('@azure/identity');
const { Client } = installed('@microsoft/microsoft-graph-client');
const { TokenCredentialAuthenticationProvider } = installed(
  '@microsoft/microsoft-graph-client/authProviders/azureTokenCredentials',
);

function graph(url, clientId, secret) {
  const options = { authorityHost: url, disableInstanceDiscovery: true };
  const credential = new ClientSecretCredential('contoso', clientId, secret, options);
  const scopes = ['https://graph.microsoft.com/.default'];
  const authProvider = new TokenCredentialAuthenticationProvider(credential, { scopes });
  // Without it the client keeps its token from a host that is not Microsoft's.
  const customHosts = new Set([new URL(url).hostname]);
  return Client.initWithMiddleware({ baseUrl: `${url}/`, defaultVersion: 'beta', customHosts, authProvider });
}

async function main() {
  const plan = JSON.parse(fs.readFileSync(0, 'utf8'));
  for (const { case: name, secret, unsid, body } of plan.posts) {
    const result = { case: name };
    try {
      const client = graph(plan.url, plan.clientId, secret);
      result.created = await client.api('/me/notifications').header('X-UNS-ID', unsid).post(body);
    } catch (error) {
      Object.assign(result, { error: error.code, status: error.statusCode, message: error.message });
    }
    console.log(JSON.stringify(result));
  }
}

main();
