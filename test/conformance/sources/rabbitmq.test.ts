import { afterAll } from 'vitest';
import { lane, TOOLS } from '../../servers/require.ts';
import { SharedBroker } from './rabbitmq.ts';
import { registerSourceSuite } from './register.ts';

lane('the source on RabbitMQ', TOOLS.rabbitmq, () => {
  const broker = new SharedBroker();
  afterAll(() => broker.close());
  registerSourceSuite(broker.fixture, { but: ['restart'] });
});
