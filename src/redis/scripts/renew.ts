/**
 * `renew`: extends a lease that is still held.
 *
 * gives 0 lost, 1 held, 2 held and wanted
 */
export const RENEW_LUA = `
local function renew(owner)
  local lease = held(owner)
  if not lease then return 0 end
  rearm(owner, lease)
  return isWanted(lease.channel) and 2 or 1
end
`;
