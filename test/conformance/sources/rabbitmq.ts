import { deadLetters, publisher, type RabbitSourceOptions, rabbitmq } from 'leasehold/rabbitmq';
import { defineSourceFixture, type SourceFixture, type SourceWorld } from 'leasehold/testing';
import { TcpProxy } from '../../servers/proxy.ts';
import { RabbitServer } from '../../servers/rabbitmq.ts';

interface RabbitWorld extends SourceWorld {
  readonly server: RabbitServer;
  readonly proxy: TcpProxy;
  readonly options: RabbitSourceOptions;
}

/** A broker takes seconds to start: all cases share it, each with a queue of its own. */
export class SharedBroker {
  #server: Promise<RabbitServer> | null = null;
  #worlds = 0;

  readonly fixture: SourceFixture = defineSourceFixture<RabbitWorld>({
    name: 'rabbitmq',
    makeWorld: () => this.#makeWorld(),
    hooks: {
      cut: async ({ proxy }) => proxy.cut(),
      restart: ({ server }) => server.restart(),
      processes: ({ options }) => ({ module: 'leasehold/rabbitmq', factory: 'rabbitmq', options }),
    },
  });

  async close(): Promise<void> {
    await (await this.#server)?.close();
  }

  async #makeWorld(): Promise<RabbitWorld> {
    this.#server ??= RabbitServer.start();
    const server = await this.#server;
    const proxy = await TcpProxy.start(server.port);
    this.#worlds += 1;
    const queue = `case-${this.#worlds}`;
    const options = { url: `amqp://127.0.0.1:${proxy.port}`, queue };
    const direct = { url: server.url, queue };
    return {
      server,
      proxy,
      options: direct,
      source: ({ prefetch } = {}) => {
        return rabbitmq({ ...options, ...(prefetch !== undefined && { prefetch }) });
      },
      publisher: () => publisher(direct),
      deadLetters: () => deadLetters(direct),
      close: () => proxy.close(),
    };
  }
}
