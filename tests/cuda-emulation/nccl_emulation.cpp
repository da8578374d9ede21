// nccl_emu.cpp - the NCCL host API over MPI, one rank per process, device memory = host memory.
// All ranks must be on one node (windows are POSIX shared memory). CUDA_EMULATION_NCCL_SUM=fp32|ring picks the rounding.
#include "cuda_emulation.h"
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <nccl.h>
#include <nccl_device.h>
#include <mpi.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>
namespace cuda_emulation { void register_device_range(void*, size_t); int mem_kind(const void*); struct Chain { int last; const void* cap; uint64_t epoch; };
cudaError_t submit(cudaStream_t s, std::function<void()> body, Chain* c); }
using std::vector;
struct Win { ncclWindow_vidmem vid; char* base; size_t bytes, stride; int nranks; char* mc; };
struct ncclComm { MPI_Comm mpi; int rank, n; uint64_t seq; vector<Win*> wins; };
static cuda_emulation::Chain chain{-1, nullptr, 0};      // NCCL calls of a process run in issue order, whatever their streams
static vector<Win*> all_wins; static int depth;
static char* mc_arena; static size_t mc_used;   // multicast addresses: reserved, never mapped
struct Call { std::function<ncclResult_t()> post; std::function<void(vector<MPI_Request>&)> p2p; cudaStream_t s; };
static vector<Call> group;
struct Seg { char* p; size_t n; std::string name; }; static vector<Seg> segs;
static size_t size_of(ncclDataType_t t) { static const int s[] = {1, 1, 4, 4, 8, 8, 2, 4, 8, 2, 1, 1}; return (size_t)s[t]; }
static double ld(const void* p, size_t i, ncclDataType_t t) {
    switch (t) { case ncclFloat32: return ((const float*)p)[i]; case ncclFloat64: return ((const double*)p)[i]; case ncclFloat16: return __half2float(((const __half*)p)[i]);
    case ncclBfloat16: return __bfloat162float(((const __nv_bfloat16*)p)[i]); case ncclInt8: return ((const int8_t*)p)[i]; case ncclUint8: return ((const uint8_t*)p)[i];
    case ncclInt32: return ((const int32_t*)p)[i]; case ncclUint32: return ((const uint32_t*)p)[i]; default: cuda_emulation::die("nccl_emu: data type %d", t); } }
static void st(void* p, size_t i, ncclDataType_t t, double v) {
    switch (t) { case ncclFloat32: ((float*)p)[i] = (float)v; break; case ncclFloat64: ((double*)p)[i] = v; break; case ncclFloat16: ((__half*)p)[i] = __float2half((float)v); break;
    case ncclBfloat16: ((__nv_bfloat16*)p)[i] = __float2bfloat16((float)v); break; case ncclInt8: ((int8_t*)p)[i] = (int8_t)v; break; case ncclUint8: ((uint8_t*)p)[i] = (uint8_t)v; break;
    case ncclInt32: ((int32_t*)p)[i] = (int32_t)v; break; case ncclUint32: ((uint32_t*)p)[i] = (uint32_t)v; break; default: cuda_emulation::die("nccl_emu: data type %d", t); } }
static void reduce(void* out, const char* all, size_t stride, size_t n, int nr, ncclDataType_t t, ncclRedOp_t op) {
    static bool ring = getenv("CUDA_EMULATION_NCCL_SUM") && *getenv("CUDA_EMULATION_NCCL_SUM") == 'r'; vector<char> tmp(8);
    for (size_t i = 0; i < n; i++) {
        int r0 = ring ? (int)(i * (size_t)nr / (n ? n : 1)) : 0; double a = 0;       // a ring starts each chunk at another rank
        for (int k = 0; k < nr; k++) { double v = ld(all + (size_t)((r0 + k) % nr) * stride, i, t);
            a = !k ? v : op == ncclProd ? a * v : op == ncclMax ? (a > v ? a : v) : op == ncclMin ? (a < v ? a : v) : a + v;
            if (t == ncclFloat32 || !ring) a = t == ncclFloat64 ? a : (float)a; else { st(tmp.data(), 0, t, a); a = ld(tmp.data(), 0, t); } }   // ring: rounded at every hop
        st(out, i, t, op == ncclAvg ? a / nr : a); } }
// Every collective first agrees on what it is; a rank that brings something else is an error, not a hang.
static void agree(ncclComm_t c, uint64_t what, size_t n) {
    uint64_t m[4] = {what, ~what, n, ~(uint64_t)n}, r[4]; c->seq++; MPI_Request q; MPI_Iallreduce(m, r, 4, MPI_UINT64_T, MPI_MAX, c->mpi, &q); int ok = 0; time_t t0 = time(nullptr), lim = getenv("CUDA_EMULATION_NCCL_TIMEOUT") ? atol(getenv("CUDA_EMULATION_NCCL_TIMEOUT")) : 60;
    while (MPI_Test(&q, &ok, MPI_STATUS_IGNORE), !ok) { sched_yield(); if (time(nullptr) - t0 > lim) cuda_emulation::die("nccl_emu: rank %d waits for its peers in collective %llu (kind %llu)", c->rank, (unsigned long long)c->seq, (unsigned long long)(what >> 56)); }
    if (r[0] != ~r[1] || r[2] != ~r[3]) cuda_emulation::die("nccl_emu: ranks disagree on collective %llu: rank %d brings %016llx, %zu elements", (unsigned long long)c->seq, c->rank, (unsigned long long)what, n); }
static ncclResult_t issue(cudaStream_t s, std::function<void()> f) { return cuda_emulation::submit(s, f, &chain) ? ncclUnhandledCudaError : ncclSuccess; }
static ncclResult_t coll(const char* nm, cudaStream_t s, ncclComm_t c, std::initializer_list<const void*> ptrs, size_t n, ncclDataType_t t, std::function<void()> f) {
    for (const void* p : ptrs) if (n && cuda_emulation::mem_kind(p) != 1) { fprintf(stderr, "nccl_emu: %s: %p is not device memory\n", nm, p); return ncclInvalidArgument; }
    if ((unsigned)t >= ncclNumTypes || !c) return ncclInvalidArgument;
    if (!depth) return issue(s, f);
    group.push_back({[=]() { return issue(s, f); }, nullptr, s}); return ncclSuccess; }
static uint64_t kind(int k, ncclDataType_t t, int op, int root) { return (uint64_t)k << 56 | (uint64_t)t << 48 | (uint64_t)(op & 0xff) << 40 | (uint32_t)root; }
extern "C" {
ncclResult_t ncclGetVersion(int* v) { *v = NCCL_VERSION_CODE; return ncclSuccess; }
const char* ncclGetErrorString(ncclResult_t r) { return r ? "nccl_emu error" : "no error"; }
ncclResult_t ncclGetUniqueId(ncclUniqueId* id) { memset(id, 0, sizeof *id); snprintf(id->internal, sizeof id->internal, "cuda-emulation-%d-%lld", (int)getpid(), (long long)time(nullptr)); return ncclSuccess; }
ncclResult_t ncclCommInitRank(ncclComm_t* out, int n, ncclUniqueId id, int rank) {
    int w, init; MPI_Initialized(&init); if (!init) MPI_Init(nullptr, nullptr);
    MPI_Comm_size(MPI_COMM_WORLD, &w); if (w != n || rank < 0 || rank >= n) return ncclInvalidArgument;           // subsets: ncclCommSplit
    ncclComm_t c = new ncclComm{}; MPI_Comm_split(MPI_COMM_WORLD, 0, rank, &c->mpi); MPI_Comm_rank(c->mpi, &c->rank); c->n = n;
    ncclUniqueId ref = id; MPI_Bcast(&ref, sizeof ref, MPI_BYTE, 0, c->mpi); if (c->rank != rank || memcmp(&ref, &id, sizeof id)) cuda_emulation::die("ncclCommInitRank: rank %d has another unique id or rank number than the rest", rank);
    *out = c; return ncclSuccess; }
ncclResult_t ncclCommInitRankConfig(ncclComm_t* c, int n, ncclUniqueId id, int rank, ncclConfig_t*) { return ncclCommInitRank(c, n, id, rank); }
ncclResult_t ncclCommSplit(ncclComm_t c, int color, int key, ncclComm_t* out, ncclConfig_t*) {
    ncclComm_t d = new ncclComm{}; MPI_Comm_split(c->mpi, color < 0 ? MPI_UNDEFINED : color, key, &d->mpi); if (d->mpi == MPI_COMM_NULL) { delete d; *out = nullptr; return ncclSuccess; }
    MPI_Comm_rank(d->mpi, &d->rank); MPI_Comm_size(d->mpi, &d->n); *out = d; return ncclSuccess; }
ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclSuccess; }
ncclResult_t ncclCommDestroy(ncclComm_t c) { MPI_Comm_free(&c->mpi); delete c; return ncclSuccess; }
ncclResult_t ncclCommAbort(ncclComm_t c) { delete c; return ncclSuccess; }
ncclResult_t ncclCommGetAsyncError(ncclComm_t, ncclResult_t* e) { *e = ncclSuccess; return ncclSuccess; }
ncclResult_t ncclCommCount(const ncclComm_t c, int* n) { *n = c->n; return ncclSuccess; }
ncclResult_t ncclCommUserRank(const ncclComm_t c, int* r) { *r = c->rank; return ncclSuccess; }
ncclResult_t ncclAllReduce(const void* a, void* b, size_t n, ncclDataType_t t, ncclRedOp_t op, ncclComm_t c, cudaStream_t s) {
    return coll("ncclAllReduce", s, c, {a, b}, n, t, [=]() { agree(c, kind(1, t, op, 0), n); size_t z = n * size_of(t); vector<char> all(z * c->n); MPI_Allgather(a, (int)z, MPI_BYTE, all.data(), (int)z, MPI_BYTE, c->mpi); reduce(b, all.data(), z, n, c->n, t, op); }); }
ncclResult_t ncclReduce(const void* a, void* b, size_t n, ncclDataType_t t, ncclRedOp_t op, int root, ncclComm_t c, cudaStream_t s) {
    return coll("ncclReduce", s, c, {a}, n, t, [=]() { agree(c, kind(2, t, op, root), n); size_t z = n * size_of(t); vector<char> all(z * c->n); MPI_Gather(a, (int)z, MPI_BYTE, all.data(), (int)z, MPI_BYTE, root, c->mpi); if (c->rank == root) reduce(b, all.data(), z, n, c->n, t, op); }); }
ncclResult_t ncclReduceScatter(const void* a, void* b, size_t n, ncclDataType_t t, ncclRedOp_t op, ncclComm_t c, cudaStream_t s) {
    return coll("ncclReduceScatter", s, c, {a, b}, n, t, [=]() { agree(c, kind(3, t, op, 0), n); size_t z = n * size_of(t); vector<char> all(z * c->n); MPI_Alltoall(a, (int)z, MPI_BYTE, all.data(), (int)z, MPI_BYTE, c->mpi); reduce(b, all.data(), z, n, c->n, t, op); }); }
ncclResult_t ncclAllGather(const void* a, void* b, size_t n, ncclDataType_t t, ncclComm_t c, cudaStream_t s) {
    return coll("ncclAllGather", s, c, {a, b}, n, t, [=]() { agree(c, kind(4, t, 0, 0), n); size_t z = n * size_of(t); vector<char> in((const char*)a, (const char*)a + z); MPI_Allgather(in.data(), (int)z, MPI_BYTE, b, (int)z, MPI_BYTE, c->mpi); }); }
ncclResult_t ncclBroadcast(const void* a, void* b, size_t n, ncclDataType_t t, int root, ncclComm_t c, cudaStream_t s) {
    return coll("ncclBroadcast", s, c, {b}, n, t, [=]() { agree(c, kind(5, t, 0, root), n); if (c->rank == root && a != b) memmove(b, a, n * size_of(t)); MPI_Bcast(b, (int)(n * size_of(t)), MPI_BYTE, root, c->mpi); }); }
ncclResult_t ncclBcast(void* b, size_t n, ncclDataType_t t, int root, ncclComm_t c, cudaStream_t s) { return ncclBroadcast(b, b, n, t, root, c, s); }
static ncclResult_t p2p(bool send, void* p, size_t n, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s) {
    if (cuda_emulation::mem_kind(p) != 1 || peer < 0 || peer >= c->n) return ncclInvalidArgument; int z = (int)(n * size_of(t));
    group.push_back({nullptr, [=](vector<MPI_Request>& r) { r.emplace_back(); if (send) MPI_Isend(p, z, MPI_BYTE, peer, 7, c->mpi, &r.back()); else MPI_Irecv(p, z, MPI_BYTE, peer, 7, c->mpi, &r.back()); }, s});
    if (depth) return ncclSuccess;
    depth = 1; return ncclGroupEnd(); }
ncclResult_t ncclSend(const void* p, size_t n, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s) { return p2p(true, (void*)p, n, t, peer, c, s); }
ncclResult_t ncclRecv(void* p, size_t n, ncclDataType_t t, int peer, ncclComm_t c, cudaStream_t s) { return p2p(false, p, n, t, peer, c, s); }
ncclResult_t ncclGroupStart() { depth++; return ncclSuccess; }
ncclResult_t ncclGroupEnd() {
    if (!depth) return ncclInvalidUsage; if (--depth) return ncclSuccess;
    vector<std::function<void(vector<MPI_Request>&)>> ps; ncclResult_t e = ncclSuccess; cudaStream_t ss = nullptr;
    for (Call& k : group) if (k.p2p) { if (!ps.empty() && k.s != ss) return ncclInvalidUsage; ss = k.s; ps.push_back(k.p2p); } else if (ncclResult_t r = k.post()) e = r;
    group.clear(); if (ps.empty()) return e;
    return issue(ss, [ps]() { vector<MPI_Request> r; for (auto& f : ps) f(r); MPI_Waitall((int)r.size(), r.data(), MPI_STATUSES_IGNORE); }); }

// ---- symmetric memory: every rank's segment mapped at lsaFlatBase + rank * stride, as on an NVLink domain ----
static void unlink_all() { for (Seg& s : segs) shm_unlink(s.name.c_str()); }
ncclResult_t ncclMemAlloc(void** p, size_t n) {
    static int reg = atexit(unlink_all); (void)reg;
    static int k; n = (n + 4095) & ~(size_t)4095; char nm[64]; snprintf(nm, sizeof nm, "/cuda_emulation-%d-%d", (int)getpid(), k++);
    int fd = shm_open(nm, O_CREAT | O_EXCL | O_RDWR, 0600); if (fd < 0 || ftruncate(fd, (off_t)n)) return ncclSystemError;
    *p = mmap(nullptr, n, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0); close(fd); memset(*p, 0xff, n); segs.push_back({(char*)*p, n, nm}); cuda_emulation::register_device_range(*p, n); return ncclSuccess; }
ncclResult_t ncclMemFree(void* p) { for (size_t i = 0; i < segs.size(); i++) if (segs[i].p == p) { shm_unlink(segs[i].name.c_str()); munmap(p, segs[i].n); cuda_emulation::register_device_range(p, 0); segs.erase(segs.begin() + (long)i); return ncclSuccess; } return ncclInvalidArgument; }
static Win* make_win(ncclComm_t c, void* buf, size_t n) {
    Seg* s = nullptr; for (Seg& x : segs) if ((char*)buf >= x.p && (char*)buf + n <= x.p + x.n) s = &x;
    char me[96] = {}; if (s) snprintf(me, sizeof me, "%zu %zu %s", (size_t)((char*)buf - s->p), n, s->name.c_str()); vector<char> all(96 * (size_t)c->n); MPI_Allgather(me, 96, MPI_BYTE, all.data(), 96, MPI_BYTE, c->mpi);
    Win* w = new Win{}; w->nranks = c->n; w->stride = 1ull << 32; w->bytes = n;
    w->base = (char*)mmap(nullptr, w->stride * (size_t)c->n, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (!mc_arena) mc_arena = (char*)mmap(nullptr, 1ull << 40, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    w->mc = mc_arena + mc_used; w->vid.mcOffset4K = (uint32_t)(mc_used >> 12); mc_used += (n + 8191) & ~(size_t)4095;
    for (int r = 0; r < c->n; r++) { size_t off, len; char nm[64]; if (sscanf(&all[96 * (size_t)r], "%zu %zu %63s", &off, &len, nm) != 3 || len != n || off % NCCL_WIN_REQUIRED_ALIGNMENT) return nullptr;
        int fd = shm_open(nm, O_RDWR, 0600); mmap(w->base + (size_t)r * w->stride, (n + 4095) & ~(size_t)4095, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, (off_t)off); close(fd); }
    w->vid.winHost = w; w->vid.lsaFlatBase = w->base; w->vid.lsaRank = w->vid.worldRank = c->rank; w->vid.stride4G = 1; all_wins.push_back(w); MPI_Barrier(c->mpi); return w; }
ncclResult_t ncclCommWindowRegister(ncclComm_t c, void* buf, size_t n, ncclWindow_t* out, int) { Win* w = make_win(c, buf, n); *out = w ? &w->vid : nullptr; return w ? ncclSuccess : ncclInvalidArgument; }
ncclResult_t ncclCommWindowDeregister(ncclComm_t, ncclWindow_t v) { Win* w = (Win*)v->winHost; munmap(w->base, w->stride * (size_t)w->nranks); for (size_t i = 0; i < all_wins.size(); i++) if (all_wins[i] == w) all_wins.erase(all_wins.begin() + (long)i); delete w; return ncclSuccess; }
int cuda_emulation_multicast_peers(const void* p, void** q) { for (Win* w : all_wins) if ((char*)p >= w->mc && (char*)p < w->mc + w->bytes) { for (int r = 0; r < w->nranks; r++) q[r] = w->base + (size_t)r * w->stride + ((char*)p - w->mc); return w->nranks; }
    cuda_emulation::die("multimem access at %p is outside every window", p); }
ncclResult_t ncclDevCommCreate(ncclComm_t c, ncclDevCommRequirements_t const* rq, ncclDevComm_t* dc) {
    memset(dc, 0, sizeof *dc); dc->rank = dc->lsaRank = c->rank; dc->nRanks = dc->lsaSize = c->n; dc->nRanks_rcp32 = dc->lsaSize_rcp32 = nccl::utility::idivRcp32((uint32_t)c->n);
    int nb = rq->lsaBarrierCount > rq->barrierCount ? rq->lsaBarrierCount : rq->barrierCount; size_t off = (size_t)(3 * nb + nb * c->n) * 4; off = (off + 127) & ~(size_t)127;
    for (auto* r = rq->resourceRequirementsList; r; r = r->next) { size_t al = r->bufferAlign > 128 ? r->bufferAlign : 128; off = (off + al - 1) / al * al; if (r->outBufferHandle) *r->outBufferHandle = (uint32_t)(off / 128); off += r->bufferSize; }
    void* p; ncclMemAlloc(&p, off + 4096); memset(p, 0, off); Win* w = make_win(c, p, (off + 4095) & ~(size_t)4095); if (!w) return ncclInternalError;
    dc->resourceWindow = &w->vid; dc->resourceWindow_inlined = w->vid; dc->lsaBarrier.bufHandle = 0; dc->lsaBarrier.nBarriers = nb;
    if (rq->lsaMultimem) dc->lsaMultimem.mcBasePtr = mc_arena;
    return ncclSuccess; }
ncclResult_t ncclDevCommDestroy(ncclComm_t, ncclDevComm_t const*) { return ncclSuccess; }
}
