/**
 * Names the commands that a script may not use: a server says only that there are some.
 */
import type { RedisClient } from './clients/client.ts';
import { type Script, script } from './scripts/script.ts';
import { MisconfiguredError } from './setup.ts';
import { within } from './within.ts';

/** What stands for the key. */
const KEY = 'KEY';
/** Each command as it can be tried on a key that nobody uses; that it fails for another reason does not matter. */
const ATTEMPTS: Readonly<Record<string, readonly string[]>> = {
  TIME: [],
  TYPE: [KEY],
  GET: [KEY],
  PTTL: [KEY],
  EXISTS: [KEY],
  HSET: [KEY, 'f', '1'],
  HGET: [KEY, 'f'],
  HMGET: [KEY, 'f'],
  HDEL: [KEY, 'f'],
  PERSIST: [KEY],
  PEXPIRE: [KEY, '1000'],
  PEXPIREAT: [KEY, '1'],
  ZADD: [KEY, '1', 'm'],
  ZREM: [KEY, 'm'],
  ZMSCORE: [KEY, 'm'],
  ZRANGE: [KEY, '0', '0'],
  ZREMRANGEBYSCORE: [KEY, '1', '1'],
  XGROUP: ['CREATE', KEY, 'g', '0', 'MKSTREAM'],
  XINFO: ['GROUPS', KEY],
  XADD: [KEY, '*', 'f', '1'],
  XCLAIM: [KEY, 'g', 'c', '0', '0'],
  XPENDING: [KEY, 'g', '-', '+', '1'],
  XACK: [KEY, 'g', '0'],
  XDEL: [KEY, '0'],
  XLEN: [KEY],
  XRANGE: [KEY, '-', '+'],
  UNLINK: [KEY],
};

const TRY: Script = script(
  'rights',
  `
local lacking = {}
for _, text in ipairs(ARGV) do
  local words = cjson.decode(text)
  for index, word in ipairs(words) do
    if word == '${KEY}' then words[index] = KEYS[1] end
  end
  local answer = redis.pcall(unpack(words))
  if type(answer) == 'table' and answer.err and string.find(answer.err, "can't run", 1, true) then
    lacking[#lacking + 1] = words[1]
  end
end
redis.pcall('UNLINK', KEYS[1])
return lacking
`,
);

/** The commands that a script calls by their names. */
export function commandsOf({ lua }: Script): string[] {
  const names = [...lua.matchAll(/'([A-Z]+)'/g)].map(([, name]) => name as string);
  return [...new Set(names)].filter((name) => name in ATTEMPTS);
}

/** What came of a script, with the rights that it lacks where that is the reason. */
export async function namingRights(
  client: RedisClient,
  cause: unknown,
  { failed, key, timeoutMs }: { failed: Script; key: string; timeoutMs: number },
): Promise<unknown> {
  const message = cause instanceof Error ? cause.message : String(cause);
  if (!message.includes("can't run")) return cause;
  const attempts = commandsOf(failed).map((name) =>
    JSON.stringify([name, ...(ATTEMPTS[name] ?? [])]),
  );
  try {
    const sent = client.evaluate(TRY, [`${key}:leasehold-probe`], attempts);
    const lacking = (await within(sent, timeoutMs, 'a probe')) as string[];
    if (lacking.length === 0) return cause;
    const rights = lacking.map((name) => `+${name.toLowerCase()}`).join(' ');
    return new MisconfiguredError(
      `the Redis user may not use ${lacking.join(', ')} from a script; grant it (${rights})`,
      cause,
    );
  } catch {
    return cause;
  }
}
