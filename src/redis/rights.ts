/**
 * Names the commands that a script may not use: a server says only that there are some.
 */
import type { RedisClient } from './clients/client.ts';
import { type Script, script } from './scripts/script.ts';
import { MisconfiguredError } from './setup.ts';
import { within } from './within.ts';

/** What stands for the key. */
const KEY = 'KEY';
/**
 * Each command as it can be tried on a key that nobody uses; that it fails for another reason does not matter. None of them
 * writes but HSET, for which there is no way to fail.
 */
const ATTEMPTS: Readonly<Record<string, readonly string[]>> = {
  TIME: [],
  TYPE: [KEY],
  GET: [KEY],
  PTTL: [KEY],
  EXISTS: [KEY],
  SET: [KEY, 'v', 'NX', 'XX'],
  HSET: [KEY, 'f', '1'],
  HGET: [KEY, 'f'],
  HMGET: [KEY, 'f'],
  HDEL: [KEY, 'f'],
  PERSIST: [KEY],
  PEXPIRE: [KEY, '1000'],
  PEXPIREAT: [KEY, '1'],
  ZADD: [KEY, 'no number', 'm'],
  ZREM: [KEY, 'm'],
  ZMSCORE: [KEY, 'm'],
  ZRANGE: [KEY, '0', '0'],
  ZREMRANGEBYSCORE: [KEY, '1', '1'],
  XGROUP: ['CREATE', KEY, 'g', '0'],
  XINFO: ['GROUPS', KEY],
  XADD: [KEY, '0-0', 'f', '1'],
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
local function isDenied(...)
  local answer = redis.pcall(...)
  return type(answer) == 'table' and answer.err and string.find(answer.err, "can't run", 1, true)
end

-- Whether a hash can be taken away again. Each is tried, whatever the others say.
local function isGone()
  local unlink, del = isDenied('UNLINK', KEYS[1]), isDenied('DEL', KEYS[1])
  return not (isDenied('HDEL', KEYS[1], 'f') and unlink and del)
end

local lacking = {}
local isWriting = isGone()
for _, text in ipairs(ARGV) do
  local words = cjson.decode(text)
  for index, word in ipairs(words) do
    if word == '${KEY}' then words[index] = KEYS[1] end
  end
  if (words[1] ~= 'HSET' or isWriting) and isDenied(unpack(words)) then
    lacking[#lacking + 1] = words[1]
  end
end
isGone()
return lacking
`,
);

/** The commands that a script calls by their names. */
export function commandsOf({ lua }: Script): string[] {
  const names = [...lua.matchAll(/'([A-Z]+)'/g)].map(([, name]) => name as string);
  return [...new Set(names)].filter((name) => name in ATTEMPTS);
}

/** One run of a script: for whom it is, and how long its answer may take. */
export interface Run {
  readonly script: Script;
  readonly keys: readonly string[];
  readonly args: readonly string[];
  readonly timeoutMs: number;
  /** For people, as it stands in the error of a run that is not answered. */
  readonly what: string;
}

/** Runs a script, and names the rights that it lacks where that is the reason why it fails. */
export async function evaluateWithin(client: RedisClient, run: Run): Promise<unknown> {
  const { script: of, keys, args, timeoutMs, what } = run;
  try {
    return await within(client.evaluate(of, keys, args), timeoutMs, what);
  } catch (cause) {
    throw await namingRights(client, cause, run);
  }
}

/** The error, or one that names the rights which a script lacks where that is the reason of it. */
async function namingRights(
  client: RedisClient,
  cause: unknown,
  { script: failed, keys, timeoutMs }: Run,
): Promise<unknown> {
  const message = cause instanceof Error ? cause.message : String(cause);
  if (!message.includes("can't run")) return cause;
  const attempts = commandsOf(failed).map((name) =>
    JSON.stringify([name, ...(ATTEMPTS[name] ?? [])]),
  );
  try {
    const sent = client.evaluate(TRY, [`${keys[0]}:leasehold-probe`], attempts);
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
