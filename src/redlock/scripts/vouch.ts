/**
 * Has a node compare its run id, and remember the witness of whoever asks, so that claims need not do the first.
 *
 * ARGV  the client's field and its witness: see marker.ts
 */
import { type Script, script } from '../../redis/scripts/script.ts';
import { MEMORY_LUA, STANDING_LUA } from './marker.ts';

export const VOUCH: Script = script(
  'vouch',
  `
local call = redis.call
${MEMORY_LUA}${STANDING_LUA}
standing(ARGV[1], ARGV[2])
`,
);
