// Sends the pushes of a plan (JSON on stdin) by node-apn; writes one line of JSON for each: what the client made of it.
'use strict';
const fs = require('fs');
const { createRequire } = require('module');
// The script stays in the source tree; the packages are wherever they were installed.
const apn = createRequire(`${process.cwd()}/`)('@parse/node-apn');

function notification(push, topic) {
  const note = new apn.Notification();
  note.topic = push.topic || topic;
  note.pushType = push.type;
  note.priority = push.priority;
  if (push.collapseId) note.collapseId = push.collapseId;
  if (push.expiration) note.expiry = push.expiration;
  note.rawPayload = push.payload;
  return note;
}

async function main() {
  const plan = JSON.parse(fs.readFileSync(0, 'utf8'));
  const provider = new apn.Provider({
    token: { key: plan.keyFile, keyId: plan.keyId, teamId: plan.teamId },
    address: plan.host,
    port: plan.port,
    ca: fs.readFileSync(plan.caFile),
  });
  const send = async push => {
    const { sent, failed } = await provider.send(notification(push, plan.topic), push.token);
    const [failure] = failed;
    return {
      case: push.case,
      sent: sent.length,
      status: failure && failure.status,
      reason: failure && failure.response && failure.response.reason,
      timestamp: failure && failure.response && failure.response.timestamp,
      error: failure && failure.error && failure.error.message,
    };
  };
  const results = [];
  if (plan.together) {
    results.push(...(await Promise.all(plan.pushes.map(send))));
  } else {
    for (const push of plan.pushes) results.push(await send(push));
  }
  for (const result of results) console.log(JSON.stringify(result));
  await provider.shutdown();
}

main().catch(error => {
  console.error(error);
  process.exitCode = 1;
});
