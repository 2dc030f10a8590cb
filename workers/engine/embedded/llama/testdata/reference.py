# How smollm2.json was made: reference.py SmolLM2-135M-Instruct.Q4_1.gguf > smollm2.json (needs numpy and gguf).
# An independent float64 forward pass, with keys and values rounded to bfloat16 as pages keep them.
import sys,json,numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize
r=GGUFReader(sys.argv[1]); W={t.name:dequantize(t.data,t.tensor_type).astype(np.float64) for t in r.tensors}
g=lambda k:r.fields["llama."+k].contents()
H,KV,L,E,eps,theta=g("attention.head_count"),g("attention.head_count_kv"),g("block_count"),g("embedding_length"),g("attention.layer_norm_rms_epsilon"),g("rope.freq_base")
D=E//H
def bf16(x):
    b=x.astype(np.float32).view(np.uint32).astype(np.uint64); b=((b+0x7fff+((b>>16)&1))>>16<<16).astype(np.uint32)
    return b.view(np.float32).astype(np.float64)
def forward(tokens,rnd):
    T=len(tokens); x=W["token_embd.weight"][tokens]
    norm=lambda x,w:x/np.sqrt((x*x).mean(-1,keepdims=True)+eps)*w
    inv=theta**(-np.arange(0,D,2)/D); ang=np.arange(T)[:,None]*inv; c,s=np.cos(ang)[:,None],np.sin(ang)[:,None]
    def rope(v): # interleaved pairs, as GGUF orders llama's q and k
        a,b=v[...,0::2],v[...,1::2]; o=np.empty_like(v); o[...,0::2]=a*c-b*s; o[...,1::2]=b*c+a*s; return o
    mask=np.triu(np.full((T,T),-np.inf),1)
    for l in range(L):
        w=lambda n:W[f"blk.{l}.{n}.weight"]
        h=norm(x,w("attn_norm")); q=rope((h@w("attn_q").T).reshape(T,H,D)); k=rope((h@w("attn_k").T).reshape(T,KV,D)); v=(h@w("attn_v").T).reshape(T,KV,D)
        if rnd: k,v=bf16(k),bf16(v)
        k,v=np.repeat(k,H//KV,1),np.repeat(v,H//KV,1)
        a=np.einsum("thd,shd->hts",q,k)/np.sqrt(D)+mask; a=np.exp(a-a.max(-1,keepdims=True)); a/=a.sum(-1,keepdims=True)
        x=x+np.einsum("hts,shd->thd",a,v).reshape(T,E)@w("attn_output").T
        h=norm(x,w("ffn_norm")); gt=h@w("ffn_gate").T; x=x+(gt/(1+np.exp(-gt))*(h@w("ffn_up").T))@w("ffn_down").T
    return norm(x,W["output_norm.weight"])@W.get("output.weight",W["token_embd.weight"]).T
# prompts: ids only, so that no tokenizer is involved
rng=np.random.default_rng(7)
prompts=[[1,9690,198,2683,359,253,5356,5646,11173,3365,3511,308,34519,28,7018,411,407,19712,8182,2,198,1,4093,198,1780,314,260,3575,282,4649,47,2,198,1,520,9531,198],
         [504,2365,6354,16438,1690,335],
         rng.integers(0,49152,150).tolist()]
out=[]
for p in prompts:
    b=forward(p,True)
    last=b[-1]; top=np.argsort(-last)[:5]
    probe=list(range(0,49152,4096))
    out.append(dict(tokens=p,argmax=b.argmax(-1).tolist(),margin=[round(float(np.diff(np.sort(y)[-2:])[0]),4) for y in b],top=top.tolist(),top_logits=[round(float(last[i]),5) for i in top],probe=probe,probe_logits=[round(float(last[i]),5) for i in probe]))
json.dump(out,sys.stdout,separators=(",",":"))
