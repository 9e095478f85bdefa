import { outboxCases } from 'leasehold/testing';
import { embeddedOutboxFixture } from './fixtures/embedded-engines.ts';
import { registerEngineSuite } from './register-engines.ts';

registerEngineSuite(embeddedOutboxFixture, outboxCases, { but: [] });
