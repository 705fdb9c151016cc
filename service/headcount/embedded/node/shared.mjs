// Numbers that the main thread and the backend's thread share (an Int32Array over shared memory).

export const POSTED = 0 // how many messages were posted to the backend; waiting on it is waiting for input
export const UNREAD = 1 // bytes posted to the backend that it has not read yet
export const UNSENT = 2 // bytes from the backend that no socket has taken yet
export const WAITING = 3 // 1 while the backend waits for input
export const SLOTS = 4
