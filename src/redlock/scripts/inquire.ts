/**
 * Asks a node what it remembers.
 *
 * KEYS  marker, epochs
 * ARGV  1 when durable, the client's longest ttl in ms
 * gives {state, run id, ms until it need not abstain any more, longest ttl in ms, its highest epoch}
 */
import { type Script, script } from '../../redis/scripts/script.ts';
import { MARKER_LUA } from './marker.ts';

export const INQUIRE: Script = script(
  'inquire',
  `
local call = redis.call
local function text(number) return string.format('%.0f', number) end
${MARKER_LUA}
local run, state, since, longest, highest, timeMs = standing(KEYS[1], ARGV[1] == '1', tonumber(ARGV[2]))
for _, epoch in ipairs(call('HVALS', KEYS[2])) do highest = math.max(highest, tonumber(epoch)) end
local leftMs = state == 'votes' and 0 or math.max(0, since + longest - timeMs())
return { state, run, text(leftMs), text(longest), text(highest) }
`,
);
