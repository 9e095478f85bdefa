/**
 * The proxy does what it says, or the tests that stand on it prove nothing.
 */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { until } from './processes.ts';
import { TcpProxy } from './proxy.ts';

let server: Server;
let proxy: TcpProxy;
let received = '';
const sockets: Socket[] = [];

beforeEach(async () => {
  received = '';
  // It answers each request with the same in capitals.
  server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (bytes) => {
      received += bytes;
      socket.write(String(bytes).toUpperCase());
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy = await TcpProxy.start((server.address() as AddressInfo).port);
});
afterEach(async () => {
  for (const socket of sockets.splice(0)) socket.destroy();
  await proxy.close();
  server.close();
});

async function open() {
  const socket = connect(proxy.port, '127.0.0.1');
  sockets.push(socket);
  const state = { text: '', isClosed: false, send: (text: string) => socket.write(text) };
  socket.on('error', () => {});
  socket.on('data', (bytes) => {
    state.text += bytes;
  });
  socket.on('close', () => {
    state.isClosed = true;
  });
  await until('it is connected', () => !socket.connecting);
  return state;
}

test('forwards, and what was held arrives late and in order', async () => {
  const client = await open();
  client.send('a');
  await until('it is answered', () => client.text === 'A');
  proxy.blackhole('replies');
  client.send('b');
  await until('it is received', () => received === 'ab');
  proxy.blackhole('requests');
  client.send('c');
  expect(client.text).toBe('A');
  expect(client.isClosed).toBe(false);
  proxy.forward();
  await until('all is answered', () => client.text === 'ABC');
  proxy.delay(20);
  client.send('d');
  client.send('e');
  await until('it is answered later', () => client.text === 'ABCDE');
});

test('a lost reply: the server has done it, the client finds the connection cut', async () => {
  const client = await open();
  const other = await open();
  const lost = proxy.loseReply((bytes) => bytes.includes('please'));
  client.send('first');
  await until('it is answered', () => client.text === 'FIRST');
  client.send('please');
  await lost;
  await until('it is cut', () => client.isClosed);
  expect(received).toContain('please');
  expect(client.text).toBe('FIRST');
  other.send('please');
  await until('only one was lost', () => other.text === 'PLEASE');
  expect(proxy.connections).toBe(2);
});

test('a reply is lost as well when its connection is cut before it comes', async () => {
  const client = await open();
  proxy.blackhole();
  let isOnItsWay = false;
  const lost = proxy.loseReply((bytes) => {
    isOnItsWay = bytes.includes('please');
    return isOnItsWay;
  });
  client.send('please');
  await until('it is on its way', () => isOnItsWay);
  proxy.cut();
  await lost;
});

test('cuts and refuses', async () => {
  const client = await open();
  proxy.refuse();
  await until('it is cut', () => client.isClosed && proxy.open === 0);
  const refused = await open();
  await until('it is refused', () => refused.isClosed);
  proxy.forward();
  const again = await open();
  again.send('x');
  await until('it is taken again', () => again.text === 'X');
});
