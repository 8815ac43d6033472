import type { Role } from '../contract/roles.js';

/** Who asks: settled by the API before a use case is called. */
export interface Caller {
  readonly userId: string;
  readonly role: Role;
  /** of an API key its id, else what the request came with: `session:<start of its hash>` or `password:<user>` */
  readonly keyId: string;
  /** of a session: when it ends, unless it is used until then */
  readonly sessionEndsAt?: Date;
}

/** The id of the API key that the caller came with; null: it was none. */
export function apiKeyOf(caller: Caller): string | null {
  return caller.keyId.includes(':') ? null : caller.keyId;
}

/** Whose objects a caller may see and change; null: everybody's. */
export function ownerOf(caller: Caller): string | null {
  return caller.role === 'admin' ? null : caller.userId;
}
