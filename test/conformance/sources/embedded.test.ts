import { fixture } from './embedded.ts';
import { registerSourceSuite } from './register.ts';

registerSourceSuite(fixture, false);
