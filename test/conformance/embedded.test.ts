import { fixture } from './fixtures/embedded.ts';
import { registerSuite } from './register.ts';

registerSuite(fixture, { but: [] });
