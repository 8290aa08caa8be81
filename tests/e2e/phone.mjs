// The app on a phone, by clients/typescript: told by lines of JSON what to do, each answered by a line. The first one is
// {package, baseUrl, token}; then {"do": name of a method, "with": [arguments]}, answered by {"done": what it gave} or
// {"failed": {status, code}}; "parsePush" and "look" are the app's own.
import { createInterface } from "node:readline";

function answer(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const { package: built, baseUrl, token } = JSON.parse((await lines.next()).value);
const { HeraldClient, HeraldError, Seen, parsePush } = await import(built);
const client = new HeraldClient({ baseUrl, token: () => token });
let shelf = null;
const seen = new Seen({ read: () => shelf, write: (text) => void (shelf = text) });
const own = { parsePush, look: (push) => seen.look(push) };
answer({});
for await (const line of lines) {
  const asked = JSON.parse(line);
  try {
    const done = asked.do in own ? await own[asked.do](...asked.with) : await client[asked.do](...asked.with);
    answer({ done: done ?? null });
  } catch (error) {
    if (!(error instanceof HeraldError)) throw error;
    answer({ failed: { status: error.status, code: error.code, message: error.message } });
  }
}
