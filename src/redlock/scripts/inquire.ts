/**
 * Asks a node what it remembers.
 *
 * ARGV  the client's field and its witness: see marker.ts
 * gives {state, run id, ms until it need not abstain any more, longest ttl in ms, its highest epoch}
 */
import { type Script, script } from '../../redis/scripts/script.ts';
import { MEMORY_LUA, STANDING_LUA } from './marker.ts';

export const INQUIRE: Script = script(
  'inquire',
  `
local call = redis.call
${MEMORY_LUA}${STANDING_LUA}
local run, state, since, longest, highest, timeMs = standing(ARGV[1], ARGV[2])
-- The marker is no number, and no witness is.
for _, epoch in ipairs(call('HVALS', MEMORY)) do highest = math.max(highest, tonumber(epoch) or 0) end
local leftMs = state == 'votes' and 0 or math.max(0, since + longest - timeMs())
return { state, run, text(leftMs), text(longest), text(highest) }
`,
);
