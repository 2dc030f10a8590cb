package llama
import ("testing";"syscall";"context";"fmt")
func cpuNow() float64 { var r syscall.Rusage; syscall.Getrusage(0,&r); return float64(r.Utime.Sec)+float64(r.Utime.Usec)/1e6+float64(r.Stime.Sec)+float64(r.Stime.Usec)/1e6 }
func TestCPU(t *testing.T){ m:=demoModel(t); r:=NewRunner(m,16,1); defer r.Close(); ctx:=context.Background()
 best:=1e9
 for _,n:=range []int{16,512,2000} { pages:=newPages(m,16,n+1); best=1e9; for range 3 {t0:=cpuNow(); for at:=0;at<n;at+=512 {r.Step(ctx,[]Sequence{{Tokens:someTokens(m,n)[at:min(n,at+512)],Start:at,Pages:pages}})}; best=min(best,cpuNow()-t0)}; fmt.Printf("prefill %d: %.0f tok/cpu-s\n",n,float64(n)/best); best=1e9
 for range 20 { t0:=cpuNow(); for range 5 {r.Step(ctx,[]Sequence{{Tokens:[]uint32{42},Start:n,Pages:pages,Logits:true}})}; best=min(best,(cpuNow()-t0)/5) }; fmt.Printf("decode at %d: best %.2f cpu-ms\n",n,best*1e3) } }
