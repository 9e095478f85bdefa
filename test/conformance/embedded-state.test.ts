import { stateCases } from 'leasehold/testing';
import { embeddedStateFixture } from './fixtures/embedded-engines.ts';
import { registerEngineSuite } from './register-engines.ts';

registerEngineSuite(embeddedStateFixture, stateCases, { but: [] });
