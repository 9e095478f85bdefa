/** Prints the bundled sample. */
import { sampleLines } from './sample.ts';

for (const line of sampleLines()) console.log(line);
