import { fixture } from './memory.ts';
import { registerSourceSuite } from './register.ts';

registerSourceSuite(fixture, false);
