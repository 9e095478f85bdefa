/** Questions whose answer may be that there is no such node. */
import { CODES } from './client.ts';
import * as requests from './requests.ts';
import { codeOf, type Session } from './session.ts';

/** The names in a line. Nobody, when there is no such line. */
export async function namesOf(session: Session, path: string): Promise<readonly string[]> {
  try {
    return (await session.send(requests.children(path))).names;
  } catch (error) {
    if (codeOf(error) === CODES.noNode) return [];
    throw error;
  }
}

/** Null, when there is no such node. */
export async function statOf(session: Session, path: string): Promise<requests.Stat | null> {
  try {
    return await session.send(requests.exists(path));
  } catch (error) {
    if (codeOf(error) === CODES.noNode) return null;
    throw error;
  }
}

/** False when the answer was that error. */
export async function unless(code: number, answer: Promise<unknown>): Promise<boolean> {
  try {
    await answer;
    return true;
  } catch (error) {
    if (codeOf(error) === code) return false;
    throw error;
  }
}
