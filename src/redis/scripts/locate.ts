/**
 * Does nothing, where the slot of a key is. KEYS any key of the slot.
 */
import { type Script, script } from './script.ts';

export const LOCATE: Script = script('locate', 'return 1');
