/**
 * Lets a node vote that has abstained for long enough, with the highest epoch and the longest ttl that the others know.
 *
 * KEYS  marker
 * ARGV  1 when durable, the client's longest ttl in ms, the run id that was told, the highest epoch, the longest ttl in
 *       ms, 1 when nothing can have been granted yet
 * gives 1 when it votes now
 */
import { type Script, script } from '../../redis/scripts/script.ts';
import { MARKER_LUA } from './marker.ts';

export const READMIT: Script = script(
  'readmit',
  `
local call = redis.call
local function text(number) return string.format('%.0f', number) end
${MARKER_LUA}
local run, state, since, longest, floor, timeMs = standing(KEYS[1], ARGV[1] == '1', tonumber(ARGV[2]))
if state == 'votes' then return 1 end
-- What was read is about another process, which has been restarted since.
if run ~= ARGV[3] then return 0 end
floor = math.max(floor, tonumber(ARGV[4]))
longest = math.max(longest, tonumber(ARGV[5]))
local isOver = ARGV[6] == '1' or timeMs() >= since + longest
state = isOver and 'votes' or state
call('SET', KEYS[1], table.concat({ run, state, text(since), text(longest), text(floor) }, ' '))
return isOver and 1 or 0
`,
);
