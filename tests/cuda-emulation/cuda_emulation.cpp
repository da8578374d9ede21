// cuda_emulation.cpp - fiber scheduler and CUDA runtime stand-ins. Compile WITHOUT sanitizers.
// Environment: CUDA_EMULATION_SCHEDULE=fifo|lifo|random  CUDA_EMULATION_SEED=n  CUDA_EMULATION_STREAMS=eager|lazy
//              CUDA_EMULATION_RESIDENT=n  CUDA_EMULATION_PROCESSORS=n  CUDA_EMULATION_STACK_BYTES=bytes  CUDA_EMULATION_SPIN_MS=n
#include "cuda_emulation.h"
#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <map>
#include <sched.h>
#include <string>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <vector>
#define WEAK extern "C" __attribute__((weak))
WEAK void *__tsan_get_current_fiber(void), *__tsan_create_fiber(unsigned);
WEAK void __tsan_switch_to_fiber(void*, unsigned), __tsan_acquire(void*), __tsan_release(void*);
WEAK void __sanitizer_start_switch_fiber(void**, const void*, size_t), __sanitizer_finish_switch_fiber(void*, const void**, size_t*);
WEAK void __msan_poison(const void*, size_t);
WEAK void __asan_poison_memory_region(void const volatile*, size_t), __asan_unpoison_memory_region(void const volatile*, size_t);

uint3 threadIdx, blockIdx; dim3 blockDim, gridDim;
namespace cuda_emulation {
enum { READY, BLOCKED, DONE };
struct Pend { unsigned mask, arrived; const void* op; void (*combine)(Thread**, unsigned); unsigned gen; char tok[2]; };
struct Warp { Thread* lane[32]; unsigned live; Pend p[8]; };
struct Barrier { int arrived; unsigned gen; const char* file; int line; Thread* wait[1024]; char tok[2]; };
struct Slot { const void* tag; void* mem; size_t bytes; };
struct Block {
    uint3 idx; Grid* g; int live, nthr, nslot; Slot slots[16]; void* dyn;
    Barrier* bar[16]; Warp warp[32]; Thread* thr[1024];
};
struct Grid {
    dim3 grid, block; size_t smem; bool coop; std::function<void()> body;
    unsigned live_blocks, gen; size_t arrived; Thread** gwait; char start, end, tok[2];
};
static Thread host; Thread* cur = &host; static Thread* finished;
struct Stats { uint64_t threads, switches, barriers, collectives, blocks, launches; } stats;
extern "C" uint64_t* cuda_emulation_statistics() { return (uint64_t*)&stats; }

// ---- configuration ----
static const char* env(const char* n, const char* d) { const char* e = getenv(n); return e ? e : d; }
static struct Cfg {
    int sched; bool lazy; int resident, sms; size_t stack; long spin_ms; uint64_t rng;
    Cfg() {
        const char* s = env("CUDA_EMULATION_SCHEDULE", "fifo"); sched = *s == 'r' ? 2 : *s == 'l' ? 1 : 0;
        lazy = *env("CUDA_EMULATION_STREAMS", "eager") == 'l'; resident = atoi(env("CUDA_EMULATION_RESIDENT", "1")); sms = atoi(env("CUDA_EMULATION_PROCESSORS", "4"));
        stack = strtoull(env("CUDA_EMULATION_STACK_BYTES", __sanitizer_start_switch_fiber || __tsan_switch_to_fiber ? "262144" : "65536"), 0, 0);
        spin_ms = atol(env("CUDA_EMULATION_SPIN_MS", "20000")); rng = strtoull(env("CUDA_EMULATION_SEED", "1"), 0, 0) * 0x9E3779B97F4A7C15ull | 1;
    }
} cfg;
static unsigned rnd(unsigned n) { cfg.rng ^= cfg.rng << 13; cfg.rng ^= cfg.rng >> 7; cfg.rng ^= cfg.rng << 17; return (unsigned)((cfg.rng >> 33) % n); }
extern "C" void cuda_emulation_configure(const char* sched, uint64_t seed, const char* streams) {
    if (sched) cfg.sched = *sched == 'r' ? 2 : *sched == 'l' ? 1 : 0;
    if (seed) cfg.rng = seed * 0x9E3779B97F4A7C15ull | 1;
    if (streams) cfg.lazy = *streams == 'l'; }
static double now() { timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return t.tv_sec + t.tv_nsec * 1e-9; }

// ---- fibers ----
#if defined(__x86_64__)
extern "C" void cuda_emulation_swap(void** save, void* load);
asm(".text\n.p2align 4\n.globl cuda_emulation_swap\n.type cuda_emulation_swap,@function\ncuda_emulation_swap:\n"
    "push %rbp\npush %rbx\npush %r12\npush %r13\npush %r14\npush %r15\nmov %rsp,(%rdi)\nmov %rsi,%rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbx\npop %rbp\nret\n.size cuda_emulation_swap,.-cuda_emulation_swap\n");
static void* fiber_init(char* top, void (*entry)()) {
    void** sp = (void**)((uintptr_t)top & ~15ull); *--sp = nullptr; *--sp = (void*)entry;
    for (int i = 0; i < 6; i++) *--sp = nullptr;
    return sp; }
#else
#include <ucontext.h>
static void cuda_emulation_swap(void** save, void* load) { ucontext_t u; *save = &u; swapcontext(&u, (ucontext_t*)load); }
static void* fiber_init(char* top, void (*entry)()) {
    ucontext_t* u = new ucontext_t; getcontext(u); u->uc_stack.ss_sp = top - cfg.stack; u->uc_stack.ss_size = cfg.stack; u->uc_link = 0;
    makecontext(u, entry, 0); return u; }
#endif
static char* stacks; static size_t nslots; static std::vector<Thread*> pool; static std::deque<int> freeslots;
static Thread** ring; static size_t rcap, rhead, rtail;      // ready queue
static double last_progress; static uint64_t nspin; static Grid* running;
static void push(Thread* t) { t->state = READY; ring[rtail++ & (rcap - 1)] = t; }
static Thread* pick() {
    if (rhead == rtail) return nullptr;
    if (cfg.sched == 1) return ring[--rtail & (rcap - 1)];
    if (cfg.sched == 2) std::swap(ring[rhead & (rcap - 1)], ring[(rhead + rnd((unsigned)(rtail - rhead))) & (rcap - 1)]);
    return ring[rhead++ & (rcap - 1)];
}
static void switch_to(Thread* t) {
    Thread* me = cur; if (t == me) return;
    stats.switches++; cur = t;
    if (t != &host) { threadIdx = t->tid; blockIdx = t->blk->idx; }
    if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(t->tsan, 1);
    if (__sanitizer_start_switch_fiber)
        __sanitizer_start_switch_fiber(me->state == DONE ? nullptr : &me->fake, t == &host ? host.payload : stacks + (size_t)t->slot * cfg.stack, t == &host ? (size_t)host.nasync : cfg.stack);
    cuda_emulation_swap(&me->sp, t->sp);
    if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(me->fake, nullptr, nullptr);
}
static void dump() {                             // where every live thread of the grid stands
    std::map<std::pair<std::string, int>, int> n; if (!running) return;
    for (Thread* t : pool) if (t->blk && t->state == BLOCKED) n[{t->file ? t->file : "?", t->line}]++;
    for (auto& e : n) fprintf(stderr, "cuda_emulation:   %d threads wait at %s:%d\n", e.second, e.first.first.c_str(), e.first.second);
}
void die(const char* fmt, ...) {
    va_list a; va_start(a, fmt); fprintf(stderr, "cuda_emulation: error: "); vfprintf(stderr, fmt, a); va_end(a); fputc('\n', stderr);
    if (cur != &host) fprintf(stderr, "cuda_emulation:   in thread (%u,%u,%u) of block (%u,%u,%u)\n", cur->tid.x, cur->tid.y, cur->tid.z, cur->blk->idx.x, cur->blk->idx.y, cur->blk->idx.z);
    dump(); fflush(stderr); _exit(86);
}
static std::vector<Barrier*> spare;
static void* fresh(size_t n) {   // never-reused memory, so TSan has no history for it
    static char *p, *e; n = (n + 1023) & ~1023ull;
    if (p + n > e) { size_t c = std::max(n, (size_t)1 << 30); p = (char*)syscall(SYS_mmap, nullptr, c, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); e = p + c; }
    void* r = p; p += n; return r;
}
static Barrier* new_barrier() { if (spare.empty()) return (Barrier*)fresh(sizeof(Barrier)); Barrier* b = spare.back(); spare.pop_back(); b->arrived = 0; return b; }
static void block_wait(const char* f, int l) { cur->state = BLOCKED; cur->file = f; cur->line = l; Thread* t = pick(); switch_to(t ? t : &host); }
static void maybe_yield() { if (cfg.sched == 2) { push(cur); switch_to(pick()); } }   // the last arriver need not run first
static void open_barrier(Barrier* b) { for (int i = 0; i < b->arrived; i++) push(b->wait[i]); b->arrived = 0; b->gen++; last_progress = 0; }
static void complete(Warp* w, Pend* p) {
    Thread* part[32]; for (int i = 0; i < 32; i++) part[i] = p->arrived >> i & 1 ? w->lane[i] : nullptr;
    if (p->combine) p->combine(part, p->mask);
    for (Thread* t : part) if (t && t != cur) push(t);
    p->mask = p->arrived = 0; p->gen++; last_progress = 0;
}
void block_barrier(const char* op, int id, unsigned count, const char* f, int l) {
    Block* b = cur->blk; if (id < 0 || id > 15) die("%s: barrier id %d", op, id);
    Barrier* B = b->bar[id] ? b->bar[id] : (b->bar[id] = new_barrier()); stats.barriers++;
    if (!B->arrived) { B->file = f; B->line = l; }
    else if (!count && (B->line != l || strcmp(B->file, f))) die("divergent %s: this thread is at %s:%d, others of the block wait at %s:%d", op, f, l, B->file, B->line);
    char* tok = &B->tok[B->gen & 1]; if (__tsan_release) __tsan_release(tok);
    if (B->arrived + 1 == (int)(count ? count : (unsigned)b->live)) { open_barrier(B); maybe_yield(); }
    else { B->wait[B->arrived++] = cur; block_wait(f, l); }
    if (__tsan_acquire) __tsan_acquire(tok);
}
unsigned warp_collective(unsigned mask, const void* op, void* payload, void (*combine)(Thread**, unsigned), const char* f, int l) {
    Warp* w = cur->warp; stats.collectives++; Pend *p = nullptr, *e = nullptr;
    if (!(mask >> cur->lane & 1)) die("%s:%d: lane %u calls a warp collective whose mask %08x leaves it out", f, l, cur->lane, mask);
    for (Pend& q : w->p) { if (q.mask == mask && q.op == op) { p = &q; break; } if (!q.mask && !e) e = &q; }
    if (!p) { if (!(p = e)) die("%s:%d: more than 8 warp collectives pending in one warp", f, l); p->mask = mask; p->op = op; p->combine = combine; p->arrived = 0; }
    char* tok = &p->tok[p->gen & 1]; bool sync = !combine;        // shuffles and votes order nothing in memory
    if (sync && __tsan_release) __tsan_release(tok);
    p->arrived |= 1u << cur->lane; cur->payload = payload; unsigned act = mask & w->live;
    if (p->arrived == act) { complete(w, p); maybe_yield(); } else block_wait(f, l);
    if (sync && __tsan_acquire) __tsan_acquire(tok);
    return act;
}
void grid_barrier(const char* f, int l) {
    Grid* g = cur->blk->g; size_t all = (size_t)g->grid.x * g->grid.y * g->grid.z * g->block.x * g->block.y * g->block.z;
    if (!g->coop) die("%s:%d: grid.sync() in a kernel that was not launched cooperatively", f, l);
    char* tok = &g->tok[g->gen & 1]; if (__tsan_release) __tsan_release(tok);
    if (g->arrived + 1 == all) { for (size_t i = 0; i < g->arrived; i++) push(g->gwait[i]); g->arrived = 0; g->gen++; last_progress = 0; maybe_yield(); }
    else { g->gwait[g->arrived++] = cur; block_wait(f, l); }
    if (__tsan_acquire) __tsan_acquire(tok);
}
void spin() {
    if ((++nspin & 255) == 0) { sched_yield(); double t = now(); if (last_progress == 0) last_progress = t;
        else if ((t - last_progress) * 1e3 > cfg.spin_ms) die("livelock: threads poll memory that nothing changes (spin loop outside a cooperative launch?)"); }
    if (cfg.sched == 1) { cur->state = READY; ring[--rhead & (rcap - 1)] = cur; if (rhead + 1 == rtail) { rhead++; return; } } else push(cur);
    switch_to(pick());
}
void fence() { for (int i = 0; i < cur->nread && i < 4; i++) if (__tsan_acquire) __tsan_acquire(cur->reads[i]); cur->nread = 0; cur->fenced = true; }
void atomic_hook(void* p, bool rd, bool wr) {
    if (wr) last_progress = 0;
    if (!__tsan_acquire) return;
    if (wr && cur->fenced) __tsan_release(p);
    if (rd) cur->reads[cur->nread++ & 3] = p;
}
void hb_release(void* p) { if (__tsan_release) __tsan_release(p); }
void hb_acquire(void* p) { if (__tsan_acquire) __tsan_acquire(p); }
static void* smem_alloc(size_t n) {
    size_t full = (n + 1023) & ~1023ull; void* m = __tsan_acquire ? fresh(n) : aligned_alloc(1024, full);
    for (size_t i = 0; i < n; i++) ((volatile unsigned char*)m)[i] = 0xff;    // poison: NaN, -1
    if (__msan_poison) __msan_poison(m, n);
    if (__asan_poison_memory_region) __asan_poison_memory_region((char*)m + n, full - n);
    return m;
}
static void smem_free(void* m, size_t n) { if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(m, (n + 1023) & ~1023ull); if (!__tsan_acquire) free(m); }
void* shared(const void* tag, size_t bytes, size_t) {
    Block* b = cur->blk; for (int i = 0; i < b->nslot; i++) if (b->slots[i].tag == tag) return b->slots[i].mem;
    if (b->nslot == 16) die("more than 16 SHARED() objects in one block");
    Slot& s = b->slots[b->nslot++]; s.tag = tag; s.bytes = bytes; return s.mem = smem_alloc(bytes);
}
void* dyn_shared(size_t* n) { if (n) *n = cur->blk->g->smem; return cur->blk->dyn; }

static void fiber_main() {
    if (__sanitizer_finish_switch_fiber) { const void* b; size_t n; __sanitizer_finish_switch_fiber(nullptr, &b, &n); if (!host.payload) { host.payload = (void*)b; host.nasync = (int)n; } }
    Thread* t = cur; Grid* g = t->blk->g;
    if (__tsan_acquire) __tsan_acquire(&g->start);
    g->body();
    if (t->nasync) die("thread exits with %d cp.async copies not waited for", t->nasync);
    if (__tsan_release) __tsan_release(&g->end);
    Block* b = t->blk; Warp* w = t->warp; t->state = DONE; b->live--; w->live &= ~(1u << t->lane); w->lane[t->lane] = nullptr; last_progress = 0;
    if (b->bar[0] && b->bar[0]->arrived && b->bar[0]->arrived == b->live) open_barrier(b->bar[0]);
    for (Pend& p : w->p) if (p.arrived && p.arrived == (p.mask & w->live)) complete(w, &p);
    finished = t; switch_to(&host); __builtin_unreachable();
}
static void start_block(Grid* g, unsigned lin) {
    Block* b = new Block(); b->g = g; stats.blocks++;
    b->idx = {lin % g->grid.x, lin / g->grid.x % g->grid.y, lin / (g->grid.x * g->grid.y)};
    b->nthr = b->live = (int)(g->block.x * g->block.y * g->block.z); if (g->smem) b->dyn = smem_alloc(g->smem);
    for (int i = 0; i < b->nthr; i++) {
        int s = freeslots.front(); freeslots.pop_front(); Thread* t = b->thr[i] = pool[s]; stats.threads++;
        t->file = nullptr; t->fenced = false; t->nread = t->nasync = 0; t->agroup = 0; t->fake = nullptr;
        t->tid = {(unsigned)i % g->block.x, (unsigned)i / g->block.x % g->block.y, (unsigned)i / (g->block.x * g->block.y)};
        t->lane = i & 31; t->warp = &b->warp[i >> 5]; t->warp->lane[i & 31] = t; t->warp->live |= 1u << (i & 31); t->blk = b;
        t->sp = fiber_init(stacks + (size_t)(s + 1) * cfg.stack - (size_t)s * 832 % 16384, fiber_main); push(t);   // staggered, or all stacks share cache sets
    }
}
static void run_grid(Grid* g) {
    if (cur != &host) die("launch from device code");
    unsigned nb = g->grid.x * g->grid.y * g->grid.z, nt = g->block.x * g->block.y * g->block.z, next = 0, done = 0;
    unsigned res = g->coop ? nb : std::min<unsigned>(nb, std::max(1, cfg.resident)); size_t need = (size_t)res * nt;
    if (__tsan_create_fiber) need = std::max(need, std::min((size_t)nb * nt, (size_t)4096));   // blocks must not share TSan fibers
    if (need > nslots) {
        if (stacks) munmap(stacks, nslots * cfg.stack);
        stacks = (char*)mmap(nullptr, need * cfg.stack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stacks == MAP_FAILED) die("no memory for %zu fiber stacks", need);
        if (need <= 16384) for (size_t i = 0; i < need; i++) mprotect(stacks + i * cfg.stack, 4096, PROT_NONE);   // overflow faults
        while (pool.size() < need) { Thread* t = (Thread*)fresh(sizeof(Thread)); t->slot = (int)pool.size(); if (__tsan_create_fiber) t->tsan = __tsan_create_fiber(0); pool.push_back(t); }
        nslots = need; for (rcap = 1; rcap < need + 2; rcap *= 2) {}
        free(ring); ring = (Thread**)malloc(rcap * sizeof *ring);
    }
    freeslots.clear(); for (size_t i = 0; i < nslots; i++) freeslots.push_back((int)i);
    if (__tsan_get_current_fiber) host.tsan = __tsan_get_current_fiber();
    if (__tsan_release) __tsan_release(&g->start);
    std::vector<unsigned> order(nb); for (unsigned i = 0; i < nb; i++) order[i] = cfg.sched == 1 ? nb - 1 - i : i;
    if (cfg.sched == 2) for (unsigned i = nb; i > 1; i--) std::swap(order[i - 1], order[rnd(i)]);
    if (g->coop) g->gwait = (Thread**)malloc(need * sizeof(Thread*));
    for (Thread* t : pool) t->blk = nullptr;
    running = g; rhead = rtail = 0; blockDim = g->block; gridDim = g->grid; stats.launches++; last_progress = 0;
    while (done < nb) {
        while (next < nb && g->live_blocks < res) { start_block(g, order[next++]); g->live_blocks++; }
        Thread* t = pick(); if (!t) die("deadlock: no thread can run");
        finished = nullptr; switch_to(t); if (!finished) continue;
        Block* b = finished->blk; finished->blk = nullptr; if (b->live) continue;
        for (int i = 0; i < b->nthr; i++) { if (__tsan_create_fiber) freeslots.push_back(b->thr[i]->slot); else freeslots.push_front(b->thr[i]->slot); }
        for (int i = 0; i < b->nslot; i++) smem_free(b->slots[i].mem, b->slots[i].bytes);
        if (b->dyn) smem_free(b->dyn, g->smem);
        for (Barrier* x : b->bar) if (x && !__tsan_create_fiber) spare.push_back(x);   // a reused token would order blocks
        delete b; g->live_blocks--; done++;
    }
    if (__tsan_acquire) __tsan_acquire(&g->end);
    free(g->gwait); g->gwait = nullptr; running = nullptr;
}

// ---- CUDA runtime: streams, events and graphs as lists of operations with dependencies ----
struct Op { std::function<void()> run; std::vector<int> deps; bool done; };
struct Capture { std::vector<Op> ops; bool bad; };
}
struct CUstream_st { bool blocking; int last; cuda_emulation::Capture* cap; std::vector<int> capdeps; bool origin; };
struct CUevent_st { int op; cuda_emulation::Capture* cap; std::vector<int> capdeps; double t; };
struct CUgraph_st { std::vector<cuda_emulation::Op> ops; };
struct CUgraphExec_st { std::vector<cuda_emulation::Op> ops; };
namespace cuda_emulation {
static CUstream_st legacy{true, -1, nullptr, {}, false}; static std::vector<CUstream_st*> streams{&legacy};
static std::vector<Op> ops; static size_t nrun; static int capturing; static cudaError_t last_error;
struct Alloc { char* p; size_t n; int kind; }; static std::vector<Alloc> allocs;     // kind 1 device, 2 pinned host
static std::vector<std::pair<const void*, int>> dyn_limit;
static Alloc* find(const void* p) { for (Alloc& a : allocs) if ((char*)p >= a.p && (char*)p < a.p + (a.n ? a.n : 1)) return &a; return nullptr; }
static cudaError_t err(cudaError_t e) { if (e) last_error = e; return e; }
static CUstream_st* S(cudaStream_t s) { return !s || s == cudaStreamLegacy || s == cudaStreamPerThread ? &legacy : s; }
int mem_kind(const void* p) { Alloc* a = find(p); return a ? a->kind : 0; }
static int kind_of(const void* p) { Alloc* a = find(p); return a ? a->kind : 0; }
static uint64_t epoch;
static void run_until(int target) {              // run operations in any order that respects dependencies
    std::vector<int> r;
    while (target < 0 ? nrun < ops.size() : !ops[target].done) {
        r.clear(); for (size_t i = 0; i < ops.size(); i++) { if (ops[i].done) continue; bool ok = true; for (int d : ops[i].deps) ok &= ops[d].done; if (ok) r.push_back((int)i); if (ok && cfg.sched != 2) break; }
        int i = r[cfg.sched == 2 ? rnd((unsigned)r.size()) : 0]; auto f = std::move(ops[i].run); f(); ops[i].done = true; nrun++;
    }
    if (nrun == ops.size()) { ops.clear(); nrun = 0; epoch++; for (auto* s : streams) s->last = -1; }
}
cudaError_t submit(cudaStream_t st, std::function<void()> f) {
    CUstream_st* s = S(st);
    if (s->cap) { s->cap->ops.push_back({std::move(f), s->capdeps, false}); s->capdeps = {(int)s->cap->ops.size() - 1}; return cudaSuccess; }
    if (capturing && s == &legacy) return err(cudaErrorStreamCaptureImplicit);
    std::vector<int> d; if (s->last >= 0) d.push_back(s->last);
    if (s == &legacy) { for (auto* o : streams) if (o->blocking && o->last >= 0) d.push_back(o->last); } else if (s->blocking && legacy.last >= 0) d.push_back(legacy.last);
    ops.push_back({std::move(f), d, false}); s->last = (int)ops.size() - 1; if (!cfg.lazy) run_until(-1);
    return cudaSuccess;
}
struct Chain { int last; const void* cap; uint64_t epoch; };   // extra ordering between operations of different streams
cudaError_t submit(cudaStream_t st, std::function<void()> f, Chain* c) {
    CUstream_st* s = S(st); std::vector<Op>& list = s->cap ? s->cap->ops : ops; bool valid = c->last >= 0 && (s->cap ? c->cap == s->cap : !c->cap && c->epoch == epoch);
    if (!valid) { cudaError_t e = submit(st, std::move(f)); *c = {s->cap ? (int)list.size() - 1 : s->last, s->cap, epoch}; return e; }
    bool lazy = cfg.lazy; cfg.lazy = true; int prev = c->last; cudaError_t e = submit(st, std::move(f)); cfg.lazy = lazy; if (e) return e;
    list.back().deps.push_back(prev); c->last = (int)list.size() - 1; if (!s->cap && !lazy) run_until(-1);
    return e;
}
cudaError_t submit_kernel(const cudaLaunchConfig_t* c, const void* fn, std::function<void()> body) {
    dim3 g = c->gridDim, b = c->blockDim; size_t nt = (size_t)b.x * b.y * b.z; bool coop = false;
    for (unsigned i = 0; i < c->numAttrs; i++) if (c->attrs[i].id == cudaLaunchAttributeCooperative) coop = c->attrs[i].val.cooperative;
    size_t maxdyn = 48 << 10; for (auto& d : dyn_limit) if (d.first == fn) { maxdyn = (size_t)d.second; break; }
    if (!nt || nt > 1024 || b.z > 64 || !g.x || !g.y || !g.z || g.y > 65535 || g.z > 65535) return err(cudaErrorInvalidConfiguration);
    if (c->dynamicSmemBytes > maxdyn) return err(cudaErrorInvalidValue);        // needs cudaFuncSetAttribute above 48 KiB
    if (coop && (size_t)g.x * g.y * g.z > (size_t)cfg.sms * (2048 / nt)) return err(cudaErrorCooperativeLaunchTooLarge);
    size_t smem = c->dynamicSmemBytes;
    return submit(c->stream, [=]() { Grid gr{}; gr.grid = g; gr.block = b; gr.smem = smem; gr.coop = coop; gr.body = body; run_grid(&gr); });
}
static cudaError_t sync_all() { if (capturing) return err(cudaErrorStreamCaptureUnsupported); run_until(-1); return cudaSuccess; }
static cudaError_t copy(void* d, const void* s, size_t n, cudaMemcpyKind k, cudaStream_t st, bool sync) {
    int kd = kind_of(d), ks = kind_of(s);
    if ((k == cudaMemcpyHostToDevice && (kd != 1 || ks == 1)) || (k == cudaMemcpyDeviceToHost && (kd == 1 || ks != 1)) || (k == cudaMemcpyDeviceToDevice && (kd != 1 || ks != 1))) return err(cudaErrorInvalidValue);
    if (cfg.lazy && !sync && ks == 0) { std::string tmp((const char*)s, n); return submit(st, [=]() { memcpy(d, tmp.data(), n); }); }   // pageable source is staged
    cudaError_t e = submit(st, [=]() { memmove(d, s, n); }); CUstream_st* q = S(st);
    if (!e && !q->cap && (sync || kd == 0) && q->last >= 0) run_until(q->last);
    return e;
}
static cudaError_t alloc(void** p, size_t n, int kind) {
    if (capturing && kind == 1) return err(cudaErrorStreamCaptureUnsupported);
    size_t full = (n + 255) & ~255ull; *p = aligned_alloc(256, full ? full : 256); if (!*p) return err(cudaErrorMemoryAllocation);
    memset(*p, 0xff, n); if (__msan_poison && kind == 1) __msan_poison(*p, n);
    allocs.push_back({(char*)*p, n, kind}); if (__asan_poison_memory_region) __asan_poison_memory_region((char*)*p + n, full - n);
    return cudaSuccess;
}
static cudaError_t release(void* p) { if (!p) return cudaSuccess; sync_all(); Alloc* a = find(p); if (!a || a->p != p) return err(cudaErrorInvalidValue);
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(p, (a->n + 255) & ~255ull);
    allocs.erase(allocs.begin() + (a - allocs.data())); free(p); return cudaSuccess; }
void register_device_range(void* p, size_t n) { if (n) allocs.push_back({(char*)p, n, 1}); else if (Alloc* a = find(p)) allocs.erase(allocs.begin() + (a - allocs.data())); }
}
using namespace cuda_emulation;
#define API extern "C" cudaError_t CUDARTAPI
API cudaMalloc(void** p, size_t n) { return alloc(p, n, 1); }
API cudaFree(void* p) { return release(p); }
API cudaMallocHost(void** p, size_t n) { return alloc(p, n, 2); }
API cudaHostAlloc(void** p, size_t n, unsigned) { return alloc(p, n, 2); }
API cudaFreeHost(void* p) { return release(p); }
API cudaMemcpy(void* d, const void* s, size_t n, cudaMemcpyKind k) { return copy(d, s, n, k, nullptr, true); }
API cudaMemcpyAsync(void* d, const void* s, size_t n, cudaMemcpyKind k, cudaStream_t st) { return copy(d, s, n, k, st, false); }
API cudaMemset(void* d, int v, size_t n) { return submit(nullptr, [=]() { memset(d, v, n); }); }
API cudaMemsetAsync(void* d, int v, size_t n, cudaStream_t st) { return submit(st, [=]() { memset(d, v, n); }); }
API cudaStreamCreateWithFlags(cudaStream_t* s, unsigned f) { *s = new CUstream_st{!(f & cudaStreamNonBlocking), -1, nullptr, {}, false}; streams.push_back(*s); return cudaSuccess; }
API cudaStreamCreate(cudaStream_t* s) { return cudaStreamCreateWithFlags(s, 0); }
API cudaStreamSynchronize(cudaStream_t s) { CUstream_st* q = S(s); if (q->cap) { q->cap->bad = true; return err(cudaErrorStreamCaptureUnsupported); } if (q == &legacy) return sync_all(); if (q->last >= 0) run_until(q->last); return cudaSuccess; }
API cudaStreamDestroy(cudaStream_t s) { cudaStreamSynchronize(s); streams.erase(std::find(streams.begin(), streams.end(), s)); delete s; return cudaSuccess; }
API cudaDeviceSynchronize(void) { return sync_all(); }
API cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) { *e = new CUevent_st{-1, nullptr, {}, 0}; return cudaSuccess; }
API cudaEventCreate(cudaEvent_t* e) { return cudaEventCreateWithFlags(e, 0); }
API cudaEventDestroy(cudaEvent_t e) { sync_all(); delete e; return cudaSuccess; }
API cudaEventRecord(cudaEvent_t e, cudaStream_t s) { CUstream_st* q = S(s); e->cap = q->cap; if (q->cap) { e->capdeps = q->capdeps; return cudaSuccess; } cudaError_t r = submit(s, [e]() { e->t = now(); }); e->op = q->last; return r; }
API cudaEventSynchronize(cudaEvent_t e) { if (e->cap) return err(cudaErrorCapturedEvent); if (e->op >= 0 && e->op < (int)ops.size()) run_until(e->op); return cudaSuccess; }
API cudaEventElapsedTime(float* ms, cudaEvent_t a, cudaEvent_t b) { *ms = (float)((b->t - a->t) * 1e3); return cudaSuccess; }
API cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    CUstream_st* q = S(s);
    if (e->cap) { q->cap = e->cap; q->capdeps.insert(q->capdeps.end(), e->capdeps.begin(), e->capdeps.end()); return cudaSuccess; }   // the stream joins the capture
    if (e->op < 0 || e->op >= (int)ops.size()) return cudaSuccess;
    int op = e->op; cudaError_t r = submit(s, []() {}); if (!r && q->last >= 0) ops[q->last].deps.push_back(op); return r; }
API cudaLaunchHostFunc(cudaStream_t s, cudaHostFn_t f, void* u) { return submit(s, [=]() { f(u); }); }
API cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode) { CUstream_st* q = S(s); if (q == &legacy) return err(cudaErrorStreamCaptureUnsupported); q->cap = new Capture{}; q->capdeps.clear(); q->origin = true; capturing++; return cudaSuccess; }
API cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus* st) { *st = S(s)->cap ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone; return cudaSuccess; }
API cudaStreamEndCapture(cudaStream_t s, cudaGraph_t* g) {
    Capture* c = S(s)->cap; *g = nullptr; if (!c) return err(cudaErrorIllegalState); capturing--; bool bad = c->bad, unjoined = false;
    std::vector<bool> anc(c->ops.size()); std::vector<int> w = S(s)->capdeps; while (!w.empty()) { int i = w.back(); w.pop_back(); if (!anc[i]) { anc[i] = true; w.insert(w.end(), c->ops[i].deps.begin(), c->ops[i].deps.end()); } }
    for (bool a : anc) unjoined |= !a;
    if (!bad && !unjoined) *g = new CUgraph_st{c->ops};
    for (auto* q : streams) if (q->cap == c) { q->cap = nullptr; q->capdeps.clear(); q->origin = false; }
    delete c; return bad ? err(cudaErrorStreamCaptureInvalidated) : unjoined ? err(cudaErrorStreamCaptureUnjoined) : cudaSuccess; }
API cudaGraphInstantiate(cudaGraphExec_t* x, cudaGraph_t g, unsigned long long) { *x = new CUgraphExec_st{g->ops}; return cudaSuccess; }
API cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s) {
    return submit(s, [x]() { size_t n = x->ops.size(), left = n; std::vector<bool> done(n); std::vector<int> r;
        while (left) { r.clear(); for (size_t i = 0; i < n; i++) { bool ok = !done[i]; for (int d : x->ops[i].deps) ok = ok && done[d]; if (ok) r.push_back((int)i); }
            int i = r[cfg.sched == 2 ? rnd((unsigned)r.size()) : 0]; x->ops[i].run(); done[i] = true; left--; } }); }
API cudaGraphDestroy(cudaGraph_t g) { delete g; return cudaSuccess; }
API cudaGraphExecDestroy(cudaGraphExec_t x) { sync_all(); delete x; return cudaSuccess; }
API cudaGetLastError(void) { cudaError_t e = last_error; last_error = cudaSuccess; return e; }
API cudaPeekAtLastError(void) { return last_error; }
API cudaGetDeviceCount(int* n) { *n = 1; return cudaSuccess; }
API cudaSetDevice(int d) { return d ? err(cudaErrorInvalidDevice) : cudaSuccess; }
API cudaGetDevice(int* d) { *d = 0; return cudaSuccess; }
API cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int) {
    switch (a) { case cudaDevAttrMultiProcessorCount: *v = cfg.sms; break; case cudaDevAttrMaxSharedMemoryPerBlockOptin: *v = 232448; break; case cudaDevAttrComputeCapabilityMajor: *v = 9; break;
        case cudaDevAttrComputeCapabilityMinor: *v = 0; break; case cudaDevAttrCooperativeLaunch: *v = 1; break; case cudaDevAttrWarpSize: *v = 32; break; default: return err(cudaErrorInvalidValue); }
    return cudaSuccess; }
API cudaFuncSetAttribute(const void* f, cudaFuncAttribute a, int v) { if (a == cudaFuncAttributeMaxDynamicSharedMemorySize) { if (v > 232448) return err(cudaErrorInvalidValue); dyn_limit.insert(dyn_limit.begin(), {f, v}); } return cudaSuccess; }
API cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* n, const void*, int bs, size_t sm) { *n = std::min(2048 / bs, sm ? (int)(233472 / sm) : 32); return cudaSuccess; }
extern "C" const char* CUDARTAPI cudaGetErrorString(cudaError_t e) { static char b[32]; snprintf(b, sizeof b, "CUDA error %d", (int)e); return b; }
extern "C" const char* CUDARTAPI cudaGetErrorName(cudaError_t e) { return cudaGetErrorString(e); }
