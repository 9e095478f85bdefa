/**
 * What stands around the functions of key.ts in a script: the server's time, and the epochs.
 *
 * KEYS  epoch; then a lock, members and an order for each operation (all in one hash slot)
 * ARGV  channel of the process that makes the step; then what the script needs
 */

/** The epochs alone. Around them stand `call`, `time`, and `operations`: how many of this run may ask for one. */
export const EPOCH_LUA = `
local function text(number) return string.format('%.0f', number) end

local EPOCH_START_S = 1577836800
local EPOCH_MEMORY_MS = 86400000
local nowUs = (time[1] - EPOCH_START_S) * 1000000 + time[2]
local lastEpoch, reserved

local function epochNow()
  lastEpoch = lastEpoch or tonumber(call('GET', KEYS[1]) or '0')
  return lastEpoch
end

local function mint()
  local epoch = epochNow() + 1
  if not reserved then epoch = math.max(epoch, nowUs) end
  if not reserved or epoch > reserved then
    reserved = epoch + operations - 1
    call('SET', KEYS[1], text(reserved), 'PX', EPOCH_MEMORY_MS)
  end
  lastEpoch = epoch
  return epoch
end
`;

export const FRAME_LUA: string = `
local call = redis.call
local SHARED = 'leasehold:shared'

local channel = ARGV[1]
local operations = (#KEYS - 1) / 3
local time = call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
${EPOCH_LUA}`;
