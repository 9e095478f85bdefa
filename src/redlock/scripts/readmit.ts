/**
 * Lets a node vote that has abstained for long enough, with the highest epoch and the longest ttl that the others know.
 *
 * ARGV  what the client is (see marker.ts), the run id that was told, the highest epoch, the longest ttl in ms, 1 when nothing
 *       can have been granted yet
 * gives 1 when it votes now
 */
import { type Script, script } from '../../redis/scripts/script.ts';
import { STANDING_LUA, TRUSTED_LUA } from './marker.ts';

export const READMIT: Script = script(
  'readmit',
  `
local call = redis.call
${TRUSTED_LUA}${STANDING_LUA}
local run, state, since, longest, floor, witness, timeMs = standing(ARGV[1])
if state == 'votes' then return 1 end
-- What was read is about another process, which has been restarted since.
if run ~= ARGV[2] then return 0 end
floor = math.max(floor, tonumber(ARGV[3]))
longest = math.max(longest, tonumber(ARGV[4]))
local isOver = ARGV[5] == '1' or timeMs() >= since + longest
state = isOver and 'votes' or state
call('HSET', MEMORY, 'node', markerOf(state, longest, floor, witness, run, since))
return isOver and 1 or 0
`,
);
