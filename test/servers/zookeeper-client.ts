/** A client for the test's own looks. */
import type { Client, Stat } from 'node-zookeeper-client';
import zookeeper from 'node-zookeeper-client';

export interface NodeClient {
  readonly client: Client;
  /** None, when the node does not exist. */
  children(path: string): Promise<string[]>;
  exists(path: string): Promise<boolean>;
  stat(path: string): Promise<Stat | null>;
  /** Makes an ephemeral, sequential node, and answers its path. */
  enter(path: string): Promise<string>;
  remove(path: string): Promise<void>;
  close(): void;
}

/** As long as a case may take: the client is silent in between. */
const SESSION_TIMEOUT_MS = 60_000;

export async function nodeClient(connect: string): Promise<NodeClient> {
  const client = zookeeper.createClient(connect, {
    sessionTimeout: SESSION_TIMEOUT_MS,
    retries: 3,
  });
  await new Promise<void>((resolve) => {
    client.once('connected', () => resolve());
    client.connect();
  });
  return {
    client,
    children: (path) =>
      new Promise((resolve, reject) => {
        client.getChildren(path, (error, children) => {
          if (!error) resolve(children);
          else if ((error as { code?: unknown }).code === zookeeper.Exception.NO_NODE) resolve([]);
          else reject(error);
        });
      }),
    exists: async (path) => (await statOf(client, path)) !== null,
    stat: (path) => statOf(client, path),
    enter: (path) =>
      new Promise((resolve, reject) => {
        client.create(path, zookeeper.CreateMode.EPHEMERAL_SEQUENTIAL, (error, made) =>
          error ? reject(error) : resolve(made),
        );
      }),
    remove: (path) =>
      new Promise((resolve, reject) => {
        client.remove(path, (error) => (error ? reject(error) : resolve()));
      }),
    close: () => client.close(),
  };
}

function statOf(client: Client, path: string): Promise<Stat | null> {
  return new Promise((resolve, reject) => {
    client.exists(path, (error, stat) => (error ? reject(error) : resolve(stat ?? null)));
  });
}
