/**
 * Takes a key from whoever holds it, tells them, mints an epoch above all that were granted, and hands the key to the
 * next waiter.
 *
 * KEYS  epoch, lock, members, order
 * ARGV  a channel: of nobody
 * gives {0, what is there} when that is no lock; else {1, the new epoch, the owners that held it, who has it now}
 */
import { FRAME_LUA } from './frame.ts';
import { KEY_LUA } from './key.ts';
import { type Script, script } from './script.ts';

export const BREAK: Script = script(
  'break',
  `${FRAME_LUA}${KEY_LUA}
local notALock = use(KEYS[2], KEYS[3], KEYS[4])
if notALock then return { 0, notALock } end
local owners = {}
local function lose(owner, channel)
  owners[#owners + 1] = owner
  if channel then tell(channel, { 'lost', lock, owner }) end
end
prune()
if holder then
  lose(holder.owner, holder.channel)
elseif value and value ~= SHARED then
  lose(value)
elseif value then
  local all = call('HGETALL', members)
  for index = 1, #all, 2 do
    local owner = string.sub(all[index], 2)
    local record = recordOf(owner)
    if record and record.kind == 'h' then
      remove(owner)
      lose(owner, record.channel)
    end
  end
end
call('DEL', lock)
value, holder = false, nil
local epoch = mint()
prune()
drain()
tidy()
local successor = holder and holder.owner or false
return { 1, text(epoch), owners, successor }
`,
);
