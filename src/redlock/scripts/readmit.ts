/**
 * Lets a node vote that has abstained for long enough, with the highest epoch and the longest ttl that the others know.
 *
 * ARGV  the client's field and its witness (see marker.ts), the run id that was told, the highest epoch, the longest ttl in
 *       ms, 1 when nothing can have been granted yet
 * gives 1 when it votes now
 */
import { type Script, script } from '../../redis/scripts/script.ts';
import { MEMORY_LUA, STANDING_LUA } from './marker.ts';

export const READMIT: Script = script(
  'readmit',
  `
local call = redis.call
${MEMORY_LUA}${STANDING_LUA}
local run, state, since, longest, floor, timeMs = standing(ARGV[1], ARGV[2])
if state == 'votes' then return 1 end
-- What was read is about another process, which has been restarted since.
if run ~= ARGV[3] then return 0 end
floor = math.max(floor, tonumber(ARGV[4]))
longest = math.max(longest, tonumber(ARGV[5]))
local isOver = ARGV[6] == '1' or timeMs() >= since + longest
state = isOver and 'votes' or state
call('HSET', MEMORY, 'node', markerOf(state, longest, floor, run, since))
-- Whoever finds the highest epoch of a slot does not look at the floor.
local all = call('HGETALL', MEMORY)
for index = 1, #all, 2 do
  if tonumber(all[index]) and tonumber(all[index + 1]) <= floor then
    call('HDEL', MEMORY, all[index])
  end
end
if isOver then vouch(ARGV[1], ARGV[2]) end
return isOver and 1 or 0
`,
);
