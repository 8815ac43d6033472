/** What somebody may do: everything, one’s own tasks, or look at them. */
export const roles = ['admin', 'user', 'viewer'] as const;
export type Role = (typeof roles)[number];
