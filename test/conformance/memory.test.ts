import { fixture } from './fixtures/memory.ts';
import { registerSuite } from './register.ts';

registerSuite(fixture, { but: [] });
