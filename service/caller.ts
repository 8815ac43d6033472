import type { Role } from '../db/api-keys.js';

/** Who asks: settled by the API before a use case is called. */
export interface Caller {
  readonly userId: string;
  readonly role: Role;
  readonly keyId: string;
}

/** Whose objects a caller may see and change; null: everybody's. */
export function ownerOf(caller: Caller): string | null {
  return caller.role === 'admin' ? null : caller.userId;
}
